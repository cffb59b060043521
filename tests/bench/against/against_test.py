#!/usr/bin/env python3
"""The parts of ./dev bench --against that work without the other runtime.

against_test.py TOOLS [TESSERA_BENCH]: TOOLS is the build folder of tests/bench.
"""
import contextlib
import io
import pathlib
import sys
import tempfile
import unittest

import cmake_args
import options
import quality
import report
import shares
import texts  # of the oracle's folder, which quality knows
from neighbours import Neighbours
from rounds import Failed, compare, interleave, median_limits, rows

TOOLS = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else None
BENCH = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
COSTS = {"weight_bytes": 1000, "kv_values": 10, "linear_macs": 50, "weight_bytes_by_type": {}}
LIMITS = {
    "read_bytes_per_second": 10_000,
    "int8_macs_per_second": 2_000,
    "int8_instruction": "vpdpbusd zmm",
    "kernels": "baseline",
}


class Rounds(unittest.TestCase):
    def test_programs_take_turns(self):
        calls = []

        def program(name, speeds):
            values = iter(speeds)

            def run(depth):
                calls.append((name, depth))
                yield {"about": name}
                test = f"tg1@d{depth}" if depth else "tg1"
                yield {"test": test, "tokens_per_second": next(values)}

            return run

        programs = {"a": program("a", [1, 2, 3, 4]), "b": program("b", [5, 6, 7, 8])}
        results = interleave(2, [0, 9], programs, lambda: LIMITS)
        self.assertEqual(calls, [("a", 0), ("b", 0), ("a", 9), ("b", 9)] * 2)
        self.assertEqual(results.speeds["tg1"], {"a": [1, 3], "b": [5, 7]})
        self.assertEqual(results.speeds["tg1@d9"], {"a": [2, 4], "b": [6, 8]})
        self.assertEqual(results.about, {"a": "a", "b": "b"})
        self.assertEqual(len(results.limits), 2)

    def test_ratios_are_taken_within_rounds(self):
        # The second minute is ten times slower for both: the ratio does not see it.
        c = compare([300, 20, 210], [100, 10, 100])
        self.assertEqual((c.ours, c.theirs), (210, 100))
        self.assertEqual((c.ratio, c.least, c.most), (2.1, 2, 3))
        for ours, theirs in (([], []), ([1], [1, 2])):
            self.assertRaises(ValueError, compare, ours, theirs)

    def test_limits_are_medians(self):
        limits = [LIMITS | {"read_bytes_per_second": value} for value in (5, 9, 7)]
        self.assertEqual(median_limits(limits)["read_bytes_per_second"], 7)

    def test_neighbours_are_not_our_own_work(self):
        neighbours = Neighbours()
        rows(["sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done"])
        others = neighbours.processors()
        self.assertTrue(others is None or 0 <= others <= 4096, others)

    def test_programs_that_fail(self):
        with self.assertRaisesRegex(Failed, "(?s)ended with 3.*no such model"):
            rows(["sh", "-c", "echo no such model >&2; exit 3"])
        with self.assertRaisesRegex(Failed, "not JSON"):
            rows(["echo", "{broken"])
        self.assertEqual(rows(["printf", 'hello\n{"a": 1}\n']), [{"a": 1}])


class Shares(unittest.TestCase):
    def test_names(self):
        self.assertEqual(shares.parts("pp512"), ("pp", 512, 0))
        self.assertEqual(shares.parts("tg128@d4096"), ("tg", 128, 4096))

    def test_generating(self):
        # 1,000 bytes of weights, and 10 values of 2 bytes for each of 90 + 10 tokens.
        self.assertEqual(shares.bytes_a_token("tg20@d90", COSTS, "f16"), 3000)
        self.assertEqual(shares.share("tg20@d90", 2, COSTS, LIMITS, "f16"), 0.6)
        smaller = 1000 + 320 * 10 * 34 / 32
        self.assertEqual(shares.bytes_a_token("tg20@d310", COSTS, "q8_0"), smaller)

    def test_prompts(self):
        self.assertEqual(shares.share("pp4", 10, COSTS, LIMITS, "f16"), 0.25)
        none = LIMITS | {"int8_macs_per_second": 0}
        self.assertIsNone(shares.share("pp4", 10, COSTS, none, "f16"))


class Options(unittest.TestCase):
    def refuse(self, message, *arguments):
        said = io.StringIO()
        with contextlib.redirect_stderr(said), self.assertRaises(SystemExit) as exit_status:
            options.parse(arguments)
        self.assertEqual(exit_status.exception.code, 2)
        self.assertRegex(said.getvalue(), message)

    def test_good(self):
        o = options.parse(["--against", "llama.cpp", "--types", "q4_1,Q8_0", "--depths", "0,64"])
        self.assertEqual(o.depths, [0, 64])
        paths = [str(model.path) for model in options.models(o)]
        self.assertEqual(paths, [f"build/peer/models/135M-{t}.gguf" for t in ("Q4_1", "Q8_0")])
        o = options.parse(["--against", "llama.cpp"])
        self.assertEqual(options.models(o), [options.Model(options.DEFAULT_MODEL)])

    def test_bad(self):
        peer = ("--against", "llama.cpp")
        self.refuse("invalid choice: 'vllm'", "--against", "vllm")
        self.refuse("no file none.gguf", *peer, "--model", "none.gguf")
        self.refuse("'IQ2_S' is not a type", *peer, "--types", "Q4_1,IQ2_S")
        self.refuse("names something twice", *peer, "--depths", "0,0")
        self.refuse("'0' is not a number from 1", *peer, "--threads", "0")
        self.refuse("'x' is not a number", *peer, "--rounds", "x")
        self.refuse("exclude each other", *peer, "--types", "F16", "--model", __file__)
        self.refuse("give --types too", *peer, "--shape", "1B")
        self.refuse("invalid choice", *peer, "--kv", "q4_0")
        self.refuse("--depths is not for --quality", *peer, "--quality", "--depths", "7")
        self.refuse("--kv is not for --quality", *peer, "--quality", "--kv", "q8_0")
        self.refuse("--positions is for --quality", *peer, "--positions", "100")
        self.refuse("'0' is not a number from 1", *peer, "--quality", "--positions", "0")

    def test_quality(self):
        self.assertEqual(options.parse(["--against", "llama.cpp", "--quality"]).positions, 2048)


class Quality(unittest.TestCase):
    def test_whole_texts_in_order(self):
        one, two = [("a", [1] * 4), ("b", [2] * 4)], [("c", [3] * 4)]
        for positions, names in ((1, "a"), (4, "a"), (5, "ab"), (9, "abc"), (12, "abc")):
            chosen = texts.first([one, iter(two)], positions)
            self.assertEqual("".join(name for name, _ in chosen), names)
        self.assertRaisesRegex(ValueError, "only 12 positions", texts.first, [one, two], 13)

    def test_summary(self):
        tally = quality.Tally()
        tally.add([0.5] * 4 + [1], [True] * 5)
        tally.add([2] * 5, [False] * 5)
        summary = tally.summary()
        self.assertEqual(summary, {"mean_kl": 1.3, "p90_kl": 2, "top1": 0.5})

    def test_lines(self):
        def said(ours, theirs):
            tallies = {report.OURS: ours, report.THEIRS: theirs}
            summaries = {
                name: {"mean_kl": kl, "p90_kl": 2 * kl, "top1": 0.97}
                for name, kl in tallies.items()
            }
            return "\n".join(quality.lines(summaries, 2048))

        self.assertRegex(said(0.002, 0.004), r"tessera +0\.00200 +0\.00400 +97\.00 %")
        self.assertRegex(said(0.002, 0.004), r"ratio 0\.50 .*: met")
        self.assertRegex(said(0.0036, 0.003), "ratio 1.20 .*MISSED")
        self.assertRegex(said(0.005, 0.006), "ratio 0.83 .*MISSED")

    def test_divergence(self):
        try:
            import divergence
            import numpy
        except ImportError:
            self.skipTest("no numpy")
        logits = numpy.log([[0.5, 0.25, 0.25], [0.2, 0.3, 0.5]])
        other = numpy.log([[0.25, 0.5, 0.25], [0.2, 0.3, 0.5]]) + 7
        kl = divergence.by_position(logits, other)
        self.assertAlmostEqual(kl[0], 0.25 * numpy.log(2))
        self.assertAlmostEqual(kl[1], 0)

    def test_tokens_of_the_library(self):
        if TOOLS is None:
            self.skipTest("no build folder given")
        cli = TOOLS.parent / "unit/text/tokenizer_cli"
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "model.gguf"
            rows([TOOLS / "random_model", "135M", "Q4_1", path, "1"])
            pages = dict(texts.page_texts(path, cli))
        self.assertEqual(list(pages), texts.PAGES)
        self.assertEqual({len(ids) for ids in pages.values()}, {texts.LENGTH})
        with self.assertRaisesRegex(RuntimeError, "nowhere"):
            texts.tokenise(cli, "/nowhere.gguf", "text")


class Building(unittest.TestCase):
    def test_only_what_runs(self):
        arguments = cmake_args.cmake_args("x86_64", ["avx", "avx2", "avx512vnni"])
        self.assertIn("-DGGML_NATIVE=OFF", arguments)
        self.assertIn("-DGGML_AMX_INT8=OFF", arguments)
        self.assertIn("-DGGML_AVX2=ON", arguments)
        self.assertIn("-DGGML_FMA=OFF", arguments)
        self.assertIn("-DGGML_AVX512_VNNI=OFF", arguments)  # without AVX512 itself
        both = cmake_args.cmake_args("x86_64", ["avx512", "avx512vnni"])
        self.assertIn("-DGGML_AVX512=ON", both)
        self.assertIn("-DGGML_AVX512_VNNI=ON", both)
        self.assertNotIn("GGML", cmake_args.cmake_args("aarch64", []))


class Report(unittest.TestCase):
    def test_table(self):
        speeds = {"tg20@d90": {report.OURS: [2, 3], report.THEIRS: [1, 1]}}
        results = interleave(1, [], {}, lambda: LIMITS)
        results.speeds = speeds
        line = list(report.table_lines(results, COSTS, LIMITS, "f16"))[1]
        self.assertRegex(line, r"tg20@d90 +2\.5 +1\.0 +2\.50 +2\.00-3\.00 +read +75\.0 % +30\.0 %")
        text = "\n".join(report.machine_lines(LIMITS, results, 2))
        self.assertIn("vpdpbusd zmm", text)
        self.assertNotIn("other programs", text)
        for others, told in ((0.1, False), (1.5, True)):
            text = "\n".join(report.machine_lines(LIMITS, results, 2, others))
            self.assertIn(f"other programs used {others:.2f} of", text)
            self.assertEqual("too much" in text, told)
        none = LIMITS | {"int8_macs_per_second": 0, "int8_instruction": ""}
        self.assertIn("no int8 dot-product", "\n".join(report.machine_lines(none, results, 2)))


@unittest.skipIf(TOOLS is None, "no build folder given")
class Tools(unittest.TestCase):
    def test_limits(self):
        limits = rows([TOOLS / "machine_limits", 2])[0]
        self.assertTrue(5e8 < limits["read_bytes_per_second"] < 5e12, limits)
        self.assertTrue(limits["kernels"], limits)
        if limits["int8_instruction"]:
            self.assertTrue(1e9 < limits["int8_macs_per_second"] < 1e15, limits)
        self.assertNotIn("threads", rows([TOOLS / "machine_limits"])[0])
        for bad in ("0", "-1", "two", "2x", "1025"):
            self.assertRaisesRegex(Failed, "usage", rows, [TOOLS / "machine_limits", bad])

    def test_random_models(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "model.gguf"
            for weights, width, heads in (("Q4_1", 576, 9), ("Q4_K", 768, 12)):
                rows([TOOLS / "random_model", "135M", weights, path, "1"])
                costs = rows([TOOLS / "model_costs", path])[0]
                macs = width * (width * 2 + 2 * 3 * 64 + 3 * 1536)
                self.assertEqual(costs["linear_macs"], macs)
                self.assertEqual(costs["kv_values"], 2 * 3 * 64)
                bits = {"Q4_1": 5, "Q4_K": 4.5}[weights]
                self.assertEqual(costs["weight_bytes"], (macs + width * 49152) * bits / 8)
                if BENCH:
                    command = [BENCH, "--model", path, "--pp", 16, "--tg", 4, "--depth", 8]
                    measured = rows([*command, "--repetitions", 1, "--threads", 1, "--json"])
                    self.assertEqual([row["test"] for row in measured], ["pp16@d8", "tg4@d8"])
                    self.assertTrue(all(row["tokens_per_second"] > 0 for row in measured))

    def test_bad_models(self):
        for bad in (["7B", "Q4_1", "x"], ["135M", "Q9", "x"], ["135M", "Q4_1", "x", "one"], []):
            self.assertRaisesRegex(Failed, "usage", rows, [TOOLS / "random_model", *bad])
        with self.assertRaisesRegex(Failed, "model_costs: .*nowhere"):
            rows([TOOLS / "model_costs", "/nowhere.gguf"])
        with self.assertRaisesRegex(Failed, "random_model: .*layers"):
            rows([TOOLS / "random_model", "135M", "Q4_1", "/dev/null/x", "0"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
