"""validate: checks texts against JSON schemas by an implementation that shares no code with the engine's.

usage: validate FILE COUNT      FILE: lines of {"schema": …, "text": "…"}, COUNT of them. Exit code 1 where one does not hold.
"""
import json
import sys

import jsonschema

path, count = sys.argv[1], int(sys.argv[2])
with open(path, encoding="utf-8") as file:
    pairs = [json.loads(line) for line in file]
bad = 0
for pair in pairs:
    try:
        validator = jsonschema.Draft202012Validator(
            pair["schema"], format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
        validator.validate(json.loads(pair["text"]))
    except (ValueError, jsonschema.ValidationError) as error:
        bad += 1
        print(f"{pair['schema']}\n{pair['text']!r}\n{error}\n", file=sys.stderr)
print(f"{len(pairs) - bad} of {count} texts hold")
sys.exit(bad > 0 or len(pairs) != count)
