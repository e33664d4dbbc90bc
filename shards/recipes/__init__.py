"""Corpus recipes: one small file a corpus, which says where it lies, how records become text, and how it is converted.

The shipped ones are the YAML files of this folder, by their names; a user's own is any such file, by its path:

    name: notes                              # letters, digits, _ - . ; default: the name of the file
    description: What our support team wrote # all of these are optional
    licence: ours
    tokens: 1.5B                             # expected, by the GPT-NeoX tokenizer: a number, or K, M, B, T
    inputs: [notes/*.jsonl.gz, "s3://bucket/notes/"]   # paths are relative to the folder of this file
    sources:                                 # or on the hub
      - {hub: OWNER/NAME, revision: main, files: ["en/*.parquet"]}
    template: ["{question}\n\n{}{answer.text}", "{text}"]   # `shards.templates`; first that fits; default: "{text}"
    rows: packed                             # as --rows; seq_len, holdout, on_error, compression, curation likewise
    mask_prompt: true                        # for people: what a finetuning run is to say of this set

`parts: [NAME, ...]` makes a recipe that stands for others, each a corpus of its own. Whatever is misspelt, of a wrong
type or not known is an error that names the file and the key; all problems of a file come in one message.
"""

from shards.recipes.reading import HubFiles, Recipe, find_recipe, find_recipes, recipe_names
from shards.recipes.showing import describe, table

__all__ = ["HubFiles", "Recipe", "describe", "find_recipe", "find_recipes", "recipe_names", "table"]
