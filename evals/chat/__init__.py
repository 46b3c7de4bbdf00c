"""Chat models examined: multiple choice by its letters, everything else by what is generated and checked."""
