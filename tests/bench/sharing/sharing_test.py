#!/usr/bin/env python3
"""sharing_test.py SHARING_BENCH RANDOM_MODEL: the measurements with small counts on a tiny model,
and the parts of ./dev bench sharing that need no picture. Times are not judged."""
import contextlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import options
import quality

BENCH, RANDOM_MODEL = sys.argv[1:3]


class Measurements(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        model, path = (pathlib.Path(cls.folder.name) / name for name in ("tiny.gguf", "rows"))
        subprocess.run([RANDOM_MODEL, "tiny", "F16", model], check=True)
        command = [BENCH, "--model", model, "--quick", "--threads", "2", "--json", path]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=300)
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        cls.memory = [row for row in rows if row["kind"] == "memory"]
        cls.restarts = {row["way"]: row["ratio"] for row in rows if row["kind"] == "restart"}
        cls.ways = {row["way"]: row for row in rows if row["kind"] == "first_token"}

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_first_token(self):
        chunks, head, question, chosen = 3, 16, 32, int(0.05 * 3 * 32)
        repaired = {name: row["repaired"] for name, row in self.ways.items()}
        self.assertEqual(repaired, {
            "full": 0,
            "none": 0,
            "head, cold heads": chunks * head,
            "head, cached heads": 0,
            "default, cold heads": chunks * head + chosen,
            "default, cached heads": chosen,
            "default, second turn": 0,
            "none, restart": 0,
            "default, restart": chunks * head + chosen,
        })
        self.assertEqual(self.ways["default, second turn"]["computed"], question + 1)
        self.assertTrue(all(row["ms"] > 0 for row in self.ways.values()))
        self.assertEqual(set(self.restarts), {"none, restart", "default, restart"})
        self.assertTrue(all(ratio > 0 for ratio in self.restarts.values()))

    def test_memory(self):
        by_dial = {}
        for row in self.memory:
            by_dial.setdefault((row["shape"], row["sessions"]), {})[row["dial"]] = row
        self.assertEqual({sessions for _, sessions in by_dial}, {1, 3})
        self.assertEqual(len(by_dial), 8)
        for rows in by_dial.values():
            # Nothing is held twice, and nothing that no session needs.
            self.assertEqual(rows["none"]["pages"], rows["none"]["pages_at_least"])
            self.assertLess(rows["none"]["pages"], rows["head"]["pages"])
            self.assertLess(rows["head"]["pages"], rows["default"]["pages"])
            self.assertLessEqual(rows["none"]["ratio"], 1)

    def test_bad(self):
        for arguments, message in ((["--only", "speed"], "speed not in"),
                                   (["--json", "/nowhere/rows"], "/nowhere/rows cannot be"),
                                   (["--model", "/nowhere.gguf"], "/nowhere.gguf")):
            model = [] if "--model" in arguments else [
                "--model", pathlib.Path(self.folder.name) / "tiny.gguf"]
            done = subprocess.run([BENCH, *model, *arguments], capture_output=True, text=True)
            self.assertEqual(done.returncode, 1)
            self.assertIn(message, done.stderr)


class Bars(unittest.TestCase):
    def test_ratios(self):
        rows = [{"question": question, "method": method, "kl_ratio": 0.375, "first_ratio": 0.25}
                for question in ("fact", quality.POOLED) for method in ("default", "epic")]
        lines = list(quality.bars(rows))
        self.assertEqual([line.rsplit(" ", 1)[1] for line in lines], ["met", "MISSED"])

    def test_q8(self):
        row = {"kind": "q8_0", "method": "default", "math": "fast", "kl_added": 0.25}
        (line,) = quality.q8_bars([row, {**row, "method": "head"}, {"kind": "quality"}])
        self.assertIn("0.2500, MISSED", line)

    def test_runs(self):
        rows = [{"kind": "quality", "run": run} for run in (0, 0, 1)]
        self.assertEqual([len(run) for run in quality.runs([*rows, {"kind": "q8_0"}])], [2, 1])


class Options(unittest.TestCase):
    def test_bad(self):
        for arguments, message in (
            (["--only", "speed"], "'speed' is none of quality, first_token, memory"),
            (["--sets", "all"], "'all' is none of main"),
            (["--prompts", "0"], "'0' is not a number"),
            (["--texts", "/nowhere"], "there is no folder /nowhere"),
            (["--raw", "/nowhere"], "there is no file /nowhere"),
        ):
            said = io.StringIO()
            with self.assertRaises(SystemExit), contextlib.redirect_stderr(said):
                options.parse(arguments)
            self.assertIn(message, said.getvalue())

    def test_defaults(self):
        parsed = options.parse([])
        self.assertEqual((parsed.prompts, parsed.only), (100, list(options.PARTS)))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
