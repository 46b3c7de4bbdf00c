"""What CORE is made of, shared by the metric beside it and our own evaluations (evals/core, evals/chat)."""

# core.yaml in evals/core has the same baselines, with the rest of each task: a metric has to load from its own
# directory alone, and a bundle's definitions have to be whole. A test holds the two equal.
BASELINES = {  # accuracy of guessing, percent
    "hellaswag_zeroshot": 25,
    "jeopardy": 0,
    "bigbench_qa_wikidata": 0,
    "arc_easy": 25,
    "arc_challenge": 25,
    "copa": 50,
    "commonsense_qa": 40.3,
    "piqa": 50,
    "openbook_qa": 25,
    "lambada_openai": 0,
    "hellaswag": 25,
    "winograd": 50,
    "winogrande": 50,
    "bigbench_dyck_languages": 0,
    "agi_eval_lsat_ar": 25,
    "bigbench_cs_algorithms": 0,
    "bigbench_operators": 0,
    "bigbench_repeat_copy_logic": 0,
    "squad": 0,
    "coqa": 0,
    "boolq": 62,
    "bigbench_language_identification": 25,
}


def center(accuracy: float, baseline: float) -> float:
    """`accuracy` on a scale from 0, as good as guessing (`baseline`), to 1; below 0 is worse. Both are 0 to 1."""
    return (accuracy - baseline) / (1 - baseline)
