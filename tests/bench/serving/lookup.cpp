// Prompt lookup on requests to repeat a document: decode speed with drafts and without, in turn,
// and whether the answers are the same.
#include <algorithm>
#include <cstdio>
#include <sstream>
#include <stdexcept>
#include <string_view>

#include "tests/bench/serving/bench.hpp"

namespace serving {
namespace {

constexpr double kBar = 1.5;
constexpr double kQuotes = 0.8;       // share of an answer that is quoted, for one that quotes
constexpr std::size_t kLeastRun = 8;  // tokens in a row that count as quoted
constexpr std::size_t kShortest = 120, kLongest = 400;  // documents, tokens
constexpr std::uint32_t kBeyond = 8;  // tokens that an answer may have more than its document

// A small model does not quote on every one of them, which the table tells.
const char* const kRequests[] = {
    "Repeat the following text exactly:\n\n",
    "Copy this text word for word, without changes:\n\n",
    "Correct the spelling of this text and change nothing else:\n\n",
};

// Paragraphs of prose, each on one line: no code, tables, lists or headings.
std::vector<std::string> paragraphs(const std::string& text) {
  std::vector<std::string> found(1);
  std::istringstream lines(text);
  bool code = false;
  for (std::string line; std::getline(lines, line);) {
    const bool fence = line.starts_with("```");
    if (fence) code = !code;
    const bool prose = !code && !fence && !line.empty() &&
                       std::string_view("#|-*<> ").find(line.front()) == std::string_view::npos;
    if (prose) {
      found.back() += (found.back().empty() ? "" : " ") + line;
    } else if (!found.back().empty()) {
      found.emplace_back();
    }
  }
  return found;
}

// Runs of paragraphs, none of them taken twice, as many of each text.
std::vector<std::string> documents(const Bench& bench) {
  std::vector<std::string> found;
  const std::size_t each = (bench.counts.documents - 1) / bench.texts().size() + 1;
  for (std::size_t i = 0; i < bench.texts().size(); ++i) {
    const std::size_t most = std::min<std::size_t>(bench.counts.documents, (i + 1) * each);
    std::string run;
    for (const std::string& paragraph : paragraphs(bench.texts()[i])) {
      if (found.size() >= most) break;
      run += (run.empty() ? "" : " ") + paragraph;
      const std::size_t tokens = bench.model.tokenize(run).size();
      if (tokens < kShortest) continue;
      if (tokens <= kLongest) found.push_back(run);
      run.clear();
    }
  }
  if (found.empty()) throw std::runtime_error("the texts have no paragraphs to be repeated");
  return found;
}

struct Answer {
  Tokens tokens;
  double seconds;  // from the first token to the last
  std::uint64_t drafted, accepted;
};

Answer ask(const Bench& bench, const tsr::Context& context, const std::string& request,
           const std::string& document, std::uint32_t lookup_tokens) {
  tsr::Session session(context);
  const bool chat = bench.model.info().chat != 0;
  if (chat) session.open_role(TSR_ROLE_USER);
  session.add_text(request + document);
  if (chat) session.close_role(TSR_ROLE_USER);
  if (chat) session.open_role(TSR_ROLE_ASSISTANT);
  const auto prompt = static_cast<std::ptrdiff_t>(session.info().tokens);
  const auto length = static_cast<std::uint32_t>(bench.model.tokenize(document).size());
  tsr::GenerateOptions options = bench::greedy(length + kBeyond, false);
  options.lookup_tokens = lookup_tokens;
  const tsr::Metrics before = context.metrics();
  session.generate(options);
  session.read();
  const tsr::Metrics after = context.metrics();
  Tokens tokens = session.tokens();
  tokens.erase(tokens.begin(), tokens.begin() + prompt);
  return {std::move(tokens), static_cast<double>(session.report().generate_us) / 1e6,
          after.drafted_tokens - before.drafted_tokens,
          after.accepted_tokens - before.accepted_tokens};
}

// Share of the tokens that stand in a run of at least kLeastRun which the document has too.
double quoted_share(const Tokens& answer, const Tokens& document) {
  std::vector<bool> quoted(answer.size(), false);
  for (std::size_t at = 0; at + kLeastRun <= answer.size(); ++at) {
    const auto run = answer.begin() + static_cast<std::ptrdiff_t>(at);
    if (std::search(document.begin(), document.end(), run, run + kLeastRun) == document.end())
      continue;
    std::fill_n(quoted.begin() + static_cast<std::ptrdiff_t>(at), kLeastRun, true);
  }
  const auto count = std::ranges::count(quoted, true);
  return answer.empty() ? 0.0 : static_cast<double>(count) / static_cast<double>(answer.size());
}

// Over answers: tokens behind the first of each, and the median seconds of both sides.
struct Sum {
  std::uint32_t answers = 0;
  std::uint64_t tokens = 0, drafted = 0, accepted = 0;
  double off = 0, on = 0;

  void add(const Sum& one) {
    answers += one.answers;
    tokens += one.tokens;
    drafted += one.drafted;
    accepted += one.accepted;
    off += one.off;
    on += one.on;
  }
  double ratio() const { return on > 0 ? off / on : 0; }
  double acceptance() const {
    return drafted ? static_cast<double>(accepted) / static_cast<double>(drafted) : 0;
  }
};

void print(const char* name, double quoted, const Sum& sum) {
  const auto tokens = static_cast<double>(sum.tokens);
  std::printf("%-16s %8llu", name, static_cast<unsigned long long>(sum.tokens));
  if (quoted >= 0) {
    std::printf(" %7.0f %%", 100 * quoted);
  } else {
    std::printf(" %9s", "");
  }
  std::printf(" %8.0f %% %10.1f %10.1f %8.2f\n", 100 * sum.acceptance(),
              sum.off > 0 ? tokens / sum.off : 0, sum.on > 0 ? tokens / sum.on : 0, sum.ratio());
}

nlohmann::json row(const char* kind, const Sum& sum) {
  const auto tokens = static_cast<double>(sum.tokens);
  return {{"kind", kind},
          {"answers", sum.answers},
          {"tokens", sum.tokens},
          {"drafted_tokens", sum.drafted},
          {"accepted_tokens", sum.accepted},
          {"tokens_per_second_off", sum.off > 0 ? tokens / sum.off : 0},
          {"tokens_per_second_on", sum.on > 0 ? tokens / sum.on : 0},
          {"ratio", sum.ratio()}};
}

// One document; its rounds alternate which side begins.
Sum measure_one(const Bench& bench, const tsr::Context& context, const std::string& request,
                const std::string& document, double& quoted) {
  std::vector<double> off, on;
  Sum sum;
  Tokens first;
  for (std::uint32_t round = 0; round < bench.counts.rounds; ++round) {
    for (const bool with : {round % 2 == 1, round % 2 == 0}) {
      const Answer answer =
          ask(bench, context, request, document, with ? bench.counts.lookup_tokens : 0);
      if (first.empty()) first = answer.tokens;
      if (answer.tokens != first)
        throw std::runtime_error(
            "with lookup_tokens the answer is another one: prompt lookup must "
            "not change a text");
      (with ? on : off).push_back(answer.seconds);
      if (!with) continue;
      sum.drafted = answer.drafted;
      sum.accepted = answer.accepted;
    }
  }
  quoted = quoted_share(first, bench.model.tokenize(document));
  sum.answers = 1;
  sum.tokens = first.empty() ? 0 : first.size() - 1;
  sum.off = bench::median(off);
  sum.on = bench::median(on);
  return sum;
}

}  // namespace

void measure_lookup(Bench& bench) {
  const tsr::Context context = bench.context();
  std::printf("\nprompt lookup of up to %u tokens, requests to repeat a document, median of %u\n",
              bench.counts.lookup_tokens, bench.counts.rounds);
  std::printf("%-16s %8s %9s %10s %10s %10s %8s\n", "answer", "tokens", "quoted", "accepted",
              "off tok/s", "on tok/s", "ratio");
  Sum all, quoting;
  std::uint32_t number = 0;
  for (const std::string& document : documents(bench)) {
    const std::string request = kRequests[number % std::size(kRequests)];
    double quoted = 0;
    const Sum one = measure_one(bench, context, request, document, quoted);
    print(std::to_string(++number).c_str(), quoted, one);
    nlohmann::json object = row("lookup", one);
    object["quoted"] = quoted;
    bench.log(object);
    all.add(one);
    if (quoted >= kQuotes) quoting.add(one);
  }
  print("all", -1, all);
  print("those that quote", -1, quoting);
  bench.log(row("lookup_all", all));
  bench.log(row("lookup_quoting", quoting));
  std::printf(
      "all answers are the same, token for token, with lookup and without; %u of %u quote: "
      "at least %.0f %% of\ntheir tokens stand in runs of %zu or more of the document\n"
      "bar: at least %.1f times for those that quote: %s\n",
      quoting.answers, all.answers, 100 * kQuotes, kLeastRun, kBar,
      quoting.answers ? bench::met(quoting.ratio() >= kBar) : "no answer quotes");
}

}  // namespace serving
