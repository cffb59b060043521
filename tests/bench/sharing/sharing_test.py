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
import outcomes
import quality
import stats

BENCH, RANDOM_MODEL = sys.argv[1:3]
SETTINGS = {"model": "m", "chunks": 4, "chunk_tokens": 512, "kv_type": "f16", "math": "fast",
            "reference_kv": "f16", "primer_tokens": 512, "head_tokens": 16, "select_share": 0.05,
            "seed": 1, "processor": "p"}


def outcome(method, question, prompt, kl, **other):
    rest = {"top1": 1, "recomputed": 0, "length_ratio": 1, "hit": None, "bytes_private": 1,
            "bytes_shared": 2, "ttft_ms": None}
    return {**SETTINGS, **rest, "method": method, "question": question, "prompt": prompt, "kl": kl,
            **other}


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


class Statistics(unittest.TestCase):
    def test_ratio_is_paired(self):
        under = [1, 10, 100, 1000]
        r = stats.ratio([2 * value for value in under], under)
        self.assertEqual((r.value, r.low, r.high), (2, 2, 2))

    def test_mean(self):
        m = stats.mean([0, 1] * 50)
        self.assertEqual(m.value, 0.5)
        self.assertTrue(0.35 < m.low < 0.45 and 0.55 < m.high < 0.65, m)
        self.assertEqual(m, stats.mean([0, 1] * 50))

    def test_percentile(self):
        self.assertEqual(stats.percentile([3, 1, 2], 0.5), 2)
        self.assertEqual(stats.percentile(range(101), 0.9), 90)


class Pooling(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def file(self, rows, name="raw"):
        path = pathlib.Path(self.folder.name) / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def test_rows(self):
        rows = []
        for prompt in range(3):
            for question, scale in (("fact", 1), ("summary", 3)):
                rows.append(outcome("mepic", question, prompt, [scale, scale]))
                rows.append(outcome("default", question, prompt, [0.25 * scale, 0.5 * scale]))
        rows.append(outcome("default", "fact", 3, [7]))  # its summary is on another machine
        (run,) = outcomes.read([self.file(rows[::2], "a"), self.file(rows[1::2], "b")])
        found = {(row["method"], row["question"]): row for row in quality.rows(run)}
        self.assertEqual(len(found), 6)
        pooled = found["default", outcomes.POOLED]
        self.assertEqual((pooled["n"], pooled["kl_mean"], pooled["kl_first"]), (3, 0.75, 0.5))
        self.assertEqual((pooled["kl_ratio"], pooled["first_ratio"]), (0.375, 0.25))
        self.assertEqual(found["default", "fact"]["n"], 4)
        self.assertEqual(found["mepic", outcomes.POOLED]["kl_ratio_interval"], [1, 1])
        lines = list(quality.bars(found.values()))
        self.assertEqual([line.rsplit(" ", 1)[1] for line in lines], ["met", "MISSED"])
        self.assertEqual(len(list(quality.table(run, found.values()))), 9)

    def test_q8(self):
        rows = []
        for prompt in range(3):
            for question in ("fact", "summary"):
                rows.append(outcome("default", question, prompt, [0.5]))
                rows.append(outcome("default", question, prompt, [0.75], kv_type="q8_0"))
        (row,) = quality.q8_lines(outcomes.read([self.file(rows)]))
        self.assertEqual((row["n"], row["kl_added"]), (3, 0.25))
        self.assertIn("MISSED", list(quality.q8_table([row]))[1])

    def test_bad(self):
        one = outcome("mepic", "fact", 0, [1.0])
        for rows, message in (
            ([{"method": "mepic"}], "raw:1: not an outcome"),
            ([one, {**one, "kl": []}], "raw:2: not an outcome"),
            ([one, {**one, "kl": [2.0]}], "raw:2: another outcome of prompt 0"),
        ):
            with self.assertRaisesRegex(outcomes.Bad, message):
                outcomes.read([self.file(rows)])
        self.assertEqual(len(outcomes.read([self.file([one, one])])), 1)  # the same twice


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
