#include "delegates/int4/report.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

namespace tfq::int4 {
namespace {

// Different reasons in one line; the report and verbose=true give all.
constexpr size_t kMaxReasons = 8;

std::string JsonString(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof(escape), "\\u%04x", static_cast<unsigned>(c));
      quoted += escape;
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

std::string JsonNodes(const std::vector<NodeReport>& nodes, bool taken) {
  std::string list;
  for (const NodeReport& node : nodes) {
    if (node.taken != taken) continue;
    list += list.empty() ? "\n    " : ",\n    ";
    list += "{\"subgraph\": " + std::to_string(node.subgraph) + ", \"node\": " + std::to_string(node.node) +
            ", \"op\": " + JsonString(node.op) + (taken ? ", \"kernel\": " : ", \"reason\": ") +
            JsonString(node.detail) + "}";
  }
  return "[" + list + (list.empty() ? "]" : "\n  ]");
}

size_t CountTaken(const std::vector<NodeReport>& nodes) {
  return static_cast<size_t>(std::count_if(nodes.begin(), nodes.end(), [](const NodeReport& n) { return n.taken; }));
}

}  // namespace

std::string Summary(const std::vector<NodeReport>& nodes) {
  std::vector<std::pair<std::string, int32_t>> reasons;
  for (const NodeReport& node : nodes) {
    if (node.taken) continue;
    const std::string reason = node.op + " (" + node.detail + ")";
    const auto known = std::find_if(reasons.begin(), reasons.end(), [&](const auto& r) { return r.first == reason; });
    if (known == reasons.end()) {
      reasons.emplace_back(reason, 1);
    } else {
      ++known->second;
    }
  }
  std::string text = "took " + std::to_string(CountTaken(nodes)) + " of " + std::to_string(nodes.size()) + " nodes";
  for (size_t i = 0; i < std::min(reasons.size(), kMaxReasons); ++i) {
    text += (i == 0 ? "; declined: " : ", ") + reasons[i].first + " x" + std::to_string(reasons[i].second);
  }
  if (reasons.size() > kMaxReasons) {
    text += ", and " + std::to_string(reasons.size() - kMaxReasons) + " more reasons (verbose=true lists every node)";
  }
  return text;
}

std::string ReportJson(const std::vector<NodeReport>& nodes) {
  return "{\n  \"delegated\": " + std::to_string(CountTaken(nodes)) +
         ",\n  \"total\": " + std::to_string(nodes.size()) + ",\n  \"declined\": " + JsonNodes(nodes, false) +
         ",\n  \"taken\": " + JsonNodes(nodes, true) + "\n}\n";
}

std::string WriteFile(const std::string& path, const std::string& text) {
  const std::string beside = path + "." + std::to_string(getpid()) + ".part";
  std::FILE* file = std::fopen(beside.c_str(), "wb");
  if (file == nullptr) return "cannot write " + beside + ": " + std::strerror(errno);
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  const bool closed = std::fclose(file) == 0;
  if (written && closed && std::rename(beside.c_str(), path.c_str()) == 0) return "";
  const std::string problem = "cannot write " + path + ": " + std::strerror(errno);
  std::remove(beside.c_str());
  return problem;
}

}  // namespace tfq::int4
