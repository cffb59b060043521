"""A picture of throughput against depth: one panel for prompts, one for generating."""
import statistics

import shares


def draw(path, title, speeds):
    """`speeds`: test -> program -> tokens a second of each round."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4.2), layout="constrained")
    for panel, kind, name in zip(panels, ("pp", "tg"), ("reading a prompt", "generating")):
        tests = sorted((t for t in speeds if t.startswith(kind)), key=lambda t: shares.parts(t)[2])
        if not tests:
            continue
        depths = [shares.parts(test)[2] for test in tests]
        for program in speeds[tests[0]]:
            rounds = [speeds[test][program] for test in tests]
            middle = [statistics.median(each) for each in rounds]
            spread = [
                [m - min(each) for m, each in zip(middle, rounds)],
                [max(each) - m for m, each in zip(middle, rounds)],
            ]
            panel.errorbar(depths, middle, yerr=spread, marker="o", capsize=3, label=program)
        panel.set_title(f"{name}, {kind}{shares.parts(tests[0])[1]}")
        panel.set_xlabel("tokens in the context before")
        panel.set_ylabel("tokens a second")
        panel.set_xticks(depths)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
        panel.legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
