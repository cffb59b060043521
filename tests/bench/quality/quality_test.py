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
        for question in (*QUESTIONS, "fact+summary"):
            self.assertIn(f"\n{question}, against mepic", done.stdout)

    def test_bad(self):
        with tempfile.TemporaryDirectory() as empty:
            for named, message in (
                ({"texts": ""}, "--texts FOLDER is missing"),
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


SETTINGS = {"model": "m", "chunks": 4, "chunk_tokens": 512, "kv_type": "f16", "math": "fast",
            "reference_kv": "f16", "primer_tokens": 512, "head_tokens": 16, "select_share": 0.05,
            "select_layers": 0.5, "own_tokens": 32, "answer_tokens": 24,
            "seed": 1, "processor": "p"}


def outcome(method, question, prompt, kl, **other):
    rest = {"top1": 1, "recomputed": 0, "length_ratio": 1, "hit": None, "bytes_private": 1,
            "bytes_shared": 2, "ttft_ms": None}
    return {**SETTINGS, **rest, "method": method, "question": question, "prompt": prompt, "kl": kl,
            **other}


class Pooling(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def file(self, rows, name="raw"):
        path = pathlib.Path(self.folder.name) / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def pool(self, *files, options=()):
        command = [QUALITY, *options, "--pool", *files]
        return subprocess.run(command, capture_output=True, text=True)

    def rows(self, *files):
        done = self.pool(*files, options=["--json"])
        self.assertEqual(done.returncode, 0, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def test_rows(self):
        rows = []
        for prompt in range(3):
            for question, scale in (("summary", 3), ("fact", 1)):
                rows.append(outcome("default", question, prompt, [0.25 * scale, 0.5 * scale]))
                rows.append(outcome("mepic", question, prompt, [scale, scale], processor="q"))
        rows.append(outcome("default", "fact", 3, [7]))  # its summary is on another machine
        files = self.file(rows[::3], "a"), self.file(rows[1::3], "b"), self.file(rows[2::3], "c")
        rows = self.rows(*files)
        self.assertEqual([(row["question"], row["method"]) for row in rows],
                         [(question, method) for question in ("fact", "summary", "fact+summary")
                          for method in ("mepic", "default")])
        self.assertEqual({row["run"] for row in rows}, {0})
        found = {(row["method"], row["question"]): row for row in rows}
        pooled = found["default", "fact+summary"]
        self.assertEqual((pooled["n"], pooled["kl_mean"], pooled["kl_first"]), (3, 0.75, 0.5))
        self.assertEqual((pooled["kl_ratio"], pooled["first_ratio"]), (0.375, 0.25))
        self.assertEqual(pooled["processors"], ["p", "q"])
        self.assertEqual(found["default", "fact"]["n"], 4)
        self.assertEqual(found["default", "fact"]["kl_ratio"], 0.375)  # of the prompts of both
        done = self.pool(*files)
        self.assertIn("\nfact+summary, against mepic", done.stdout)

    def test_intervals(self):
        rows = []
        for prompt in range(100):
            rows.append(outcome("mepic", "fact", prompt, [10.0 ** (prompt % 4)]))
            rows.append(outcome("none", "fact", prompt, [2 * 10.0 ** (prompt % 4)]))
            rows.append(outcome("head", "fact", prompt, [prompt % 2]))
        path = self.file(rows)
        found = {row["method"]: row for row in self.rows(path)}
        ratio = [found["none"]["kl_ratio" + end] for end in ("", "_low", "_high")]
        self.assertEqual(ratio, [2, 2, 2])  # paired
        head = found["head"]
        self.assertEqual(head["kl_mean"], 0.5)
        self.assertTrue(0.35 < head["kl_mean_low"] < 0.45, head)
        self.assertTrue(0.55 < head["kl_mean_high"] < 0.65, head)
        self.assertEqual(self.rows(path), list(found.values()))

    def test_q8(self):
        rows = []
        for prompt in range(3):
            for question in ("fact", "summary"):
                rows.append(outcome("default", question, prompt, [0.5]))
                rows.append(outcome("default", question, prompt, [0.75], kv_type="q8_0"))
        path = self.file(rows)
        rows = self.rows(path)
        runs = [row["run"] for row in rows if row["kind"] == "quality"]
        self.assertEqual(runs, [0] * 3 + [1] * 3)
        (row,) = (row for row in rows if row["kind"] == "q8_0")
        self.assertEqual((row["n"], row["kl_added"], row["kl_added_low"]), (3, 0.25, 0.25))
        self.assertIn("Q8_0 KV less F16 KV", self.pool(path).stdout)

    def test_bad(self):
        one = outcome("mepic", "fact", 0, [1.0])
        for rows, message in (
            ([{"method": "mepic"}], "raw:1: not an outcome"),
            ([one, {**one, "kl": []}], "raw:2: not an outcome"),
            ([one, {**one, "kl": [2.0]}], "raw:2: another outcome of prompt 0 of mepic, fact"),
        ):
            done = self.pool(self.file(rows))
            self.assertEqual(done.returncode, 1)
            self.assertIn(message, done.stderr)
        self.assertIn("/nowhere: cannot be read", self.pool("/nowhere").stderr)
        self.assertEqual(self.rows(self.file([one, one]))[0]["n"], 1)  # the same twice


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
