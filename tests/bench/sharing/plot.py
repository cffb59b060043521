"""Pictures: KL against the recomputed share, memory against sessions."""
from quality import POOLED

OURS = ("none", "head", "select", "default")
MOVED = {"epic": "mepic"}  # the same answers, in copies


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def quality(path, title, rows):
    """A panel a question."""
    questions = [q for q in dict.fromkeys(row["question"] for row in rows)]
    pyplot = _pyplot()
    wide = min(len(questions), 3)
    high = -(-len(questions) // wide)
    figure, panels = pyplot.subplots(high, wide, figsize=(4.6 * wide, 4 * high), squeeze=False,
                                     layout="constrained")
    for panel in panels.flat[len(questions):]:
        panel.axis("off")
    for panel, question in zip(panels.flat, questions):
        for row in rows:
            if row["question"] != question or row["kl_mean"] < 1e-5 or row["method"] in MOVED:
                continue
            low, high = row["kl_mean_low"], row["kl_mean_high"]
            mean, share = row["kl_mean"], 100 * row["recomputed"]
            ours = row["method"] in OURS
            panel.errorbar([share], [mean], yerr=[[mean - low], [high - mean]], capsize=3,
                           marker="o" if ours else "s", color="tab:blue" if ours else "tab:gray")
            name = "mepic, epic" if row["method"] == "mepic" else row["method"]
            panel.annotate(name, (share, mean), xytext=(6, 4), textcoords="offset points")
        panel.set_title("fact and summary" if question == POOLED else question)
        panel.set_xlabel("% of the chunks' tokens recomputed")
        panel.set_ylabel("KL to full prefill, nats")
        panel.set_xlim(-1, 24)
        panel.set_yscale("log")
        panel.grid(alpha=0.3, which="both")
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def memory(path, title, rows):
    """`rows` of kind memory: a panel a shape, a line a dial."""
    pyplot = _pyplot()
    shapes = list(dict.fromkeys(row["shape"] for row in rows))
    figure, panels = pyplot.subplots(1, len(shapes), figsize=(4 * len(shapes), 4.2), squeeze=False,
                                     sharey=True, layout="constrained")
    for panel, shape in zip(panels.flat, shapes):
        of_shape = [row for row in rows if row["shape"] == shape]
        for dial in dict.fromkeys(row["dial"] for row in of_shape):
            line = [row for row in of_shape if row["dial"] == dial]
            panel.plot([row["sessions"] for row in line], [row["ratio"] for row in line],
                       marker="o", label=dial)
        panel.plot([row["sessions"] for row in line], [row["ratio_at_least"] for row in line],
                   "k--", label="exact chunks shared, nothing repaired")
        panel.plot([16], [of_shape[0]["mepic"]], "rx", label="MEPIC, as published")
        panel.set_xscale("log", base=2)
        counts = [row["sessions"] for row in line]
        panel.set_xticks(counts, [str(count) for count in counts])
        panel.set_ylim(0, 1.15)
        panel.set_title(shape)
        panel.set_xlabel("sessions at once")
        panel.grid(alpha=0.3)
    panels.flat[0].set_ylabel("KV pages, over a copy for each session")
    panels.flat[0].legend(fontsize="small")
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
