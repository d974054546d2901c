// Reads model.aqd: docs/file_format.md.

#include "format/model.h"
#include "format/reader.h"

namespace aqd {
namespace {

constexpr std::string_view kMagic = "\x89"
                                    "AQD\r\n\x1a\n";
constexpr uint32_t kVersion = 5;
constexpr size_t kHeader = 16;
constexpr size_t kSection = 16;
constexpr size_t kSections = 2;
// A byte of a compressed text stands for at most so many of it.
constexpr size_t kMaxRatio = 32;
constexpr std::string_view kTags[kSections] = {"JSON", "DATA"};

uint32_t crc32(std::string_view content) {
  uint32_t table[256];
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) {
      value = value & 1 ? value >> 1 ^ 0xedb88320u : value >> 1;
    }
    table[i] = value;
  }
  uint32_t crc = ~0u;
  for (const char byte : content) {
    crc = table[(crc ^ static_cast<uint8_t>(byte)) & 255] ^ crc >> 8;
  }
  return ~crc;
}

// Reads an entry of the table, whose section the rest of the file begins with.
bool read_section(std::string_view entry, std::string_view tag, Reader *reader,
                  std::string_view *rest, std::string_view *section) {
  reader->at("section " + std::string(tag));
  const uint64_t length = number_at(entry.substr(8));
  if (!reader->expect(entry.substr(0, 4) == tag, "another tag",
                      "the tag of a section") ||
      !reader->expect(length <= rest->size(),
                      text(rest->size()) + ": the file is cut off", "% bytes",
                      length)) {
    return false;
  }
  *section = rest->substr(0, static_cast<size_t>(length));
  rest->remove_prefix(section->size());
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
  return true;
#else
  const uint64_t expected = number_at(entry.substr(4, 4));
  const uint64_t found = crc32(*section);
  return reader->expect(found == expected,
                        text(found) + ": the file is damaged",
                        "the checksum %", expected);
#endif
}

// Reads the header of a file and finds its sections.
bool read_sections(std::string_view file, Reader *reader,
                   std::string_view (&sections)[kSections]) {
  constexpr size_t kTable = kHeader + kSections * kSection;
  reader->at("the file");
  const bool is_ours = file.substr(0, kMagic.size()) == kMagic;
  if (!reader->expect(is_ours, "other first bytes", "an .aqd file") ||
      !reader->expect(file.size() >= kTable, file.size(), "a header of % bytes",
                      kTable)) {
    return false;
  }
  const uint64_t version = number_at(file.substr(8, 4));
  const uint64_t count = number_at(file.substr(12, 4));
  reader->set_version(version);
  if (!reader->expect(version >= 3 && version <= kVersion,
                      text(version) + ": compile the detector again",
                      "version 3 to %, which this engine reads", kVersion) ||
      !reader->expect(count == kSections, count, "% sections", kSections)) {
    return false;
  }
  std::string_view rest = file.substr(kTable);
  for (size_t i = 0; i < kSections; ++i) {
    const auto entry = file.substr(kHeader + i * kSection, kSection);
    if (!read_section(entry, kTags[i], reader, &rest, &sections[i])) {
      return false;
    }
  }
  reader->at("the file");
  return reader->expect(rest.empty(), text(rest.size()) + " bytes more",
                        "its end behind its sections");
}

// Makes the text of a block of LZ4: literals, and copies of text before them.
// Returns false if it is none.
bool decompress(std::string_view block, std::string *text) {
  size_t at = 0;
  const auto next = [&]() -> size_t {  // 0 behind the end
    return at < block.size() ? static_cast<uint8_t>(block[at++]) : 0;
  };
  // A length is 4 bits of a token and, if these are 15, all bytes up to one
  // that is not 255.
  const auto length = [&](size_t bits) {
    size_t more = bits == 15 ? 255 : 0;
    for (; more == 255; bits += more) more = next();
    return bits;
  };
  while (at < block.size()) {
    const size_t token = next(), literals = length(token >> 4);
    if (literals > block.size() - at) return false;
    text->append(block.substr(at, literals));
    at += literals;
    if (at == block.size()) return true;
    const size_t low = next(), from = next() << 8 | low;
    const size_t end = text->size() + length(token & 15) + 4;
    if (from == 0 || from > text->size() || end > kMaxRatio * block.size()) {
      return false;
    }
    while (text->size() < end) text->push_back((*text)[text->size() - from]);
  }
  return false;
}

// Reads the network and the programs of second stages.
void read_programs(const Value &root, std::vector<Program> *programs) {
  const Value regions = root["regions"];
  std::vector<Value> stages;
  if (!regions.is_null()) stages = regions["stages"].items();
  // Operators point into weights of their program: no program may move.
  programs->clear();
  programs->resize(1 + stages.size());
  read_program(root["program"], "Image", "program", &programs->front());
  for (size_t i = 0; i < stages.size() && root.reader().ok(); ++i) {
    read_program(stages[i]["program"], "Region", "stage " + text(i),
                 &(*programs)[i + 1]);
  }
}

}  // namespace

bool load_model(const uint8_t *content, size_t length, Model *model,
                std::string *message) {
  message->clear();
  Reader reader(message);
  std::string_view sections[kSections], &json = sections[0];
  const std::string_view file(reinterpret_cast<const char *>(content), length);
  if (!read_sections(file, &reader, sections)) return false;
  std::string text;
  reader.at("section JSON");
  if (reader.version() > 4) {
    if (!reader.expect(decompress(json, &text), "none", "a block of LZ4")) {
      return false;
    }
    json = text;
  }
  if (!reader.open(json, sections[1])) return false;
  read_programs(reader.root(), &model->programs);
  if (!reader.ok()) return false;
  // Programs can be run without a detector.
  model->refusal.clear();
  reader.set_message(&model->refusal);
  read_detector(reader.root(), model->programs, &model->detector);
  for (Program &program : model->programs) schedule(&program);
  return true;
}

}  // namespace aqd
