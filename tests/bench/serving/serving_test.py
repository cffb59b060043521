#!/usr/bin/env python3
"""serving_test.py SERVING_BENCH RANDOM_MODEL: every measurement with small counts, on a model of
one layer and random weights. Figures are not judged."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

BENCH, RANDOM_MODEL = sys.argv[1:3]
FIELDS = {
    "run": {"model", "weights", "threads", "processor", "version"},
    "sessions": {"sessions", "tokens_per_second", "ratio", "ratio_least", "ratio_most", "rounds"},
    "shared": {"method", "sessions", "chunks", "prompt_tokens", "new_tokens", "kv_bytes",
               "tokens_per_second", "ratio", "ratio_least", "ratio_most", "rounds"},
    "lookup": {"tokens", "drafted_tokens", "accepted_tokens", "quoted", "tokens_per_second_off",
               "tokens_per_second_on", "ratio"},
    "lookup_all": {"answers", "tokens", "drafted_tokens", "accepted_tokens", "ratio"},
    "lookup_quoting": {"answers", "tokens", "drafted_tokens", "accepted_tokens", "ratio"},
    "cancel": {"during", "decoding_sessions", "reading_sessions", "tries", "median_ms", "p99_ms",
               "max_ms"},
    "idle": {"sessions", "seconds", "processor_seconds", "percent_of_one_core"},
}


class Serving(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.model = pathlib.Path(cls.folder.name) / "model.gguf"
        subprocess.run([RANDOM_MODEL, "135M", "Q4_1", cls.model, "1"], check=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def run_bench(self, *options, model=None):
        command = [BENCH, "--model", model or self.model, "--quick", *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    def test_everything(self):
        path = pathlib.Path(self.folder.name) / "rows"
        done = self.run_bench("--threads", "2", "--json", path)
        self.assertEqual(done.returncode, 0, done.stderr)
        by_kind = {}
        for row in map(json.loads, path.read_text().splitlines()):
            by_kind.setdefault(row["kind"], []).append(row)
        for kind, fields in FIELDS.items():
            self.assertIn(kind, by_kind)
            for row in by_kind[kind]:
                self.assertLessEqual(fields, set(row), row)
        self.assertEqual([row["sessions"] for row in by_kind["sessions"]], [1, 3])
        self.assertEqual(by_kind["sessions"][0]["ratio"], 1)
        shared = {row["method"]: row for row in by_kind["shared"]}
        self.assertEqual(list(shared), ["private", "none", "default"])
        self.assertTrue(all(row["sessions"] == 3 for row in shared.values()), shared)
        self.assertEqual(len({row["prompt_tokens"] for row in shared.values()}), 1)
        self.assertLess(shared["none"]["kv_bytes"], shared["private"]["kv_bytes"])
        self.assertEqual(
            [(row["during"], row["decoding_sessions"], row["tries"]) for row in by_kind["cancel"]],
            [("prompt", 0, 2), ("answer", 0, 2), ("prompt", 15, 2), ("answer", 15, 2)],
        )
        self.assertTrue(all(row["max_ms"] >= row["median_ms"] > 0 for row in by_kind["cancel"]))
        for row in by_kind["lookup"]:
            self.assertTrue(0 <= row["accepted_tokens"] <= row["drafted_tokens"], row)
        self.assertEqual(len(by_kind["lookup"]), by_kind["lookup_all"][0]["answers"])

    def test_only(self):
        done = self.run_bench("--only", "idle")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("of one core", done.stdout)
        self.assertNotIn("cancel", done.stdout)

    def test_bad(self):
        for options, message in (
            (["--only", "speed"], "speed not in"),
            (["--texts", "/nowhere.md"], "the text /nowhere.md cannot be read"),
            (["--json", "/nowhere/rows"], "/nowhere/rows cannot be written"),
        ):
            done = self.run_bench(*options)
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertIn(message, done.stderr)
        self.assertEqual(self.run_bench(model="/nowhere.gguf").returncode, 1)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
