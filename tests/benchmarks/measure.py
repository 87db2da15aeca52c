"""One measurement, in this process: ``python measure.py MODULE.FUNCTION FOLDER ARGUMENTS-AS-JSON [STARTED]``.

Prints the sample as JSON. It imports next to nothing itself, so that imports can be measured.
"""

import sys
import time


def main() -> None:
    """Measure what the command line names."""
    name, folder, arguments = sys.argv[1:4]
    if name == "import":
        before, cpu_before = time.perf_counter(), time.process_time()
        exec(arguments)
        wall_us, cpu_us = (time.perf_counter() - before) * 1e6, (time.process_time() - cpu_before) * 1e6
        print(f'{{"wall_us": {wall_us}, "cpu_us": {cpu_us}}}')
        return
    import json
    from importlib import import_module
    from pathlib import Path

    keywords = json.loads(arguments)
    if len(sys.argv) > 4:
        keywords["started"] = float(sys.argv[4])
    module, _, function = name.partition(".")
    sample = getattr(import_module(module), function)(Path(folder), **keywords)
    if sample is not None:
        print(json.dumps(sample._asdict()))


if __name__ == "__main__":
    main()
