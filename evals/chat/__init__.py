"""Chat models examined: ARC and MMLU by the letters of choices, all else by what is generated and checked."""
