#!/usr/bin/env python3
"""quality_test.py TESSERA_QUALITY RANDOM_MODEL: every method and question once, on a model of two
layers and random weights. How good methods are is not judged, only what must hold for each."""
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

QUALITY, RANDOM_MODEL = sys.argv[1:3]
TEXTS = "docs"
METHODS = ["full", "prefix", "reuse", "epic", "cacheblend", "mepic", "none", "head", "select",
           "default"]
QUESTIONS = ["fact", "summary", "two_hop", "override", "order", "twice"]
KEYS = {"method", "question", "n", "kl_mean", "kl_p90", "kl_first", "top1", "recomputed",
        "length_ratio", "hits", "bytes_private", "bytes_shared", "ttft_ms"}
CHUNKS, CHUNK, PAGE = 3, 96, 16
LAYERS = 2
HEADS = CHUNKS * PAGE / (CHUNKS * CHUNK)
SELECTED = int(0.05 * CHUNKS * CHUNK) / (CHUNKS * CHUNK)


class Quality(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.model = pathlib.Path(cls.folder.name) / "model.gguf"
        subprocess.run([RANDOM_MODEL, "tiny", "F16", cls.model], check=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def run_quality(self, *options, **named):
        """`named`: options instead of those that tests usually have."""
        usual = {"texts": TEXTS, "model": self.model, "primer-tokens": 64, "chunks": CHUNKS,
                 "chunk-tokens": CHUNK, "prompts": 2}
        named = {**usual, **{name.replace("_", "-"): value for name, value in named.items()}}
        command = [QUALITY, *(part for name in named for part in (f"--{name}", named[name]))]
        command = [str(part) for part in [*command, *options]]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    def rows(self, *options, **named):
        done = self.run_quality("--json", *options, **named)
        self.assertEqual(done.returncode, 0, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def test_everything(self):
        rows = self.rows()  # all questions
        where = [(row["question"], row["method"]) for row in rows]
        self.assertEqual(where, [(q, m) for q in QUESTIONS for m in METHODS])
        for row in rows:
            self.assertLessEqual(KEYS, set(row))
            self.assertEqual(row["n"], 2)
            self.assertEqual(row["hits"] is None, row["question"] == "summary")
            if row["method"] in ("full", "prefix"):
                self.assertLess(row["kl_mean"], 1e-6)
                self.assertEqual((row["top1"], row["length_ratio"]), (1, 1))
                self.assertEqual(row["hits"], row["hits_full"])
            else:
                self.assertGreater(row["kl_mean"], 1e-9, row)

    def test_recomputed(self):
        expected = {"full": 1, "prefix": 1, "reuse": 0, "none": 0, "epic": HEADS, "mepic": HEADS,
                    "head": HEADS, "select": SELECTED, "default": HEADS + SELECTED,
                    # both layers of all tokens are computed to choose, which are all there are
                    "cacheblend": 1}
        for row in self.rows("--questions", "fact,summary"):
            self.assertAlmostEqual(row["recomputed"], expected[row["method"]], msg=row["method"])

    def test_bytes(self):
        rows = {row["method"]: row for row in self.rows("--questions", "summary")}
        both = {name: row["bytes_private"] + row["bytes_shared"] for name, row in rows.items()}
        for name in ("full", "epic", "cacheblend"):
            self.assertEqual(rows[name]["bytes_shared"], 0)
            self.assertEqual(both[name], both["full"])
        page = rows["mepic"]["bytes_private"] - rows["reuse"]["bytes_private"]
        page /= CHUNKS  # a head each
        self.assertEqual(rows["reuse"]["bytes_shared"] - rows["mepic"]["bytes_shared"],
                         CHUNKS * page)
        self.assertEqual(rows["none"]["bytes_private"], rows["reuse"]["bytes_private"])
        self.assertEqual(rows["select"]["bytes_private"] - rows["none"]["bytes_private"], page)

    def test_same_answers(self):
        rows = {row["method"]: row for row in self.rows("--questions", "fact")}
        self.assertEqual(rows["epic"]["kl_mean"], rows["mepic"]["kl_mean"])

    def test_shared_work(self):
        """Prompts do not depend on which were asked before them."""
        with tempfile.TemporaryDirectory() as folder:
            parts = []
            for first, count in ((0, 2), (1, 1)):
                path = pathlib.Path(folder) / f"{first}"
                self.rows("--first-prompt", first, "--raw", path, "--methods", "mepic,default",
                          "--questions", "fact,summary", prompts=count)
                parts.append([json.loads(line) for line in path.read_text().splitlines()])
        drop = lambda row: {key: row[key] for key in row if key != "ttft_ms"}
        again = [drop(row) for row in parts[0] if row["prompt"] == 1]
        self.assertEqual(len(again), 4)
        self.assertEqual(again, [drop(row) for row in parts[1]])

    def test_kv_types(self):
        for options, bound in ((["--kv-type", "q8_0"], 1e-2), (["--kv-type", "f32"], 1e-3)):
            row = self.rows("--methods", "full", "--own-tokens", "0", *options)[0]
            self.assertTrue(0 < row["kl_mean"] < bound, row)
            self.assertIsNone(row["length_ratio"])

    def test_table(self):
        done = self.run_quality("--methods", "mepic,default", "--own-tokens", "0")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("summary, against mepic", done.stdout)

    def test_bad(self):
        with tempfile.TemporaryDirectory() as empty:
            for named, message in (
                ({"texts": "/nowhere"}, "/nowhere: No such file or directory"),
                ({"texts": empty}, f"{empty}: holds 0 texts (.txt, .md) of more than 2000 "
                                   "characters; 4 are needed"),
                ({"chunk_tokens": 4096}, "chunks of 4096 tokens need texts of 32768 bytes"),
                ({"methods": "magic"}, "magic not in"),
                ({"own_tokens": 3}, "--own-tokens: 0, or at least --answer-tokens (24)"),
                ({"raw": "/nowhere/raw"}, "/nowhere/raw: cannot be written"),
                ({"model": "/nowhere.gguf"}, "/nowhere.gguf"),
            ):
                done = self.run_quality(**named)
                self.assertNotEqual(done.returncode, 0, done.stdout)
                self.assertIn(message, done.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
