// Reads model.aqd: docs/file_format.md.

#include <cstring>

#include "format/model.h"
#include "format/reader.h"

namespace aqd {
namespace {

constexpr char kMagic[] = "\x89"
                          "AQD\r\n\x1a\n";
constexpr uint32_t kVersion = 5;
constexpr size_t kHeader = 16;
constexpr size_t kSection = 16;
constexpr size_t kSections = 2;
// A byte of a compressed text stands for at most so many of it.
constexpr size_t kMaxRatio = 32;
constexpr const char *kTags[kSections] = {"JSON", "DATA"};

uint32_t crc32(const uint8_t *data, size_t length) {
  uint32_t table[256];
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) {
      value = value & 1 ? value >> 1 ^ 0xedb88320u : value >> 1;
    }
    table[i] = value;
  }
  uint32_t crc = ~0u;
  for (size_t i = 0; i < length; ++i) {
    crc = table[(crc ^ data[i]) & 255] ^ crc >> 8;
  }
  return ~crc;
}

struct Section {
  const uint8_t *content;
  size_t length;
};

// Reads an entry of the table, whose section begins at the given place.
bool read_section(const uint8_t *entry, const char *tag, Section rest,
                  Reader *reader, Section *section) {
  reader->at(std::string("section ") + tag);
  const uint64_t length = number_at(entry + 8, 8);
  if (!reader->expect(std::memcmp(entry, tag, 4) == 0, "another tag", tag) ||
      !reader->expect(length <= rest.length,
                      text(rest.length) + ": the file is cut off", "% bytes",
                      length)) {
    return false;
  }
  *section = {rest.content, static_cast<size_t>(length)};
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
  return true;
#else
  const uint32_t found = crc32(section->content, section->length);
  const uint32_t expected = static_cast<uint32_t>(number_at(entry + 4, 4));
  return reader->expect(found == expected,
                        text(found) + ": the file is damaged",
                        "the checksum %", expected);
#endif
}

// Reads the header of a file and finds its sections.
bool read_sections(const Section &file, Reader *reader,
                   Section (&sections)[kSections]) {
  constexpr size_t kTable = kHeader + kSections * kSection;
  reader->at("the file");
  const bool is_ours =
      file.length >= 8 && std::memcmp(file.content, kMagic, 8) == 0;
  if (!reader->expect(is_ours, "other first bytes", "an .aqd file") ||
      !reader->expect(file.length >= kTable, file.length,
                      "a header of % bytes", kTable)) {
    return false;
  }
  const uint32_t version = static_cast<uint32_t>(number_at(file.content + 8, 4));
  const uint32_t count = static_cast<uint32_t>(number_at(file.content + 12, 4));
  reader->set_version(version);
  if (!reader->expect(version >= 3 && version <= kVersion,
                      text(version) + ": compile the detector again",
                      "version 3 to %, which this engine reads", kVersion) ||
      !reader->expect(count == kSections, count, "% sections", kSections)) {
    return false;
  }
  Section rest = {file.content + kTable, file.length - kTable};
  for (size_t i = 0; i < kSections; ++i) {
    const uint8_t *entry = file.content + kHeader + i * kSection;
    if (!read_section(entry, kTags[i], rest, reader, &sections[i])) {
      return false;
    }
    rest.content += sections[i].length;
    rest.length -= sections[i].length;
  }
  reader->at("the file");
  return reader->expect(rest.length == 0, text(rest.length) + " bytes more",
                        "its end behind its sections");
}

// Makes the text of a block of LZ4. It has literals, which are copied, and parts
// to copy from the text before them. Returns false if it is none.
bool decompress(std::string_view block, std::string *text) {
  const auto next = [&]() -> size_t {  // 0 behind the end
    const size_t byte = block.empty() ? 0 : static_cast<uint8_t>(block[0]);
    block.remove_prefix(block.empty() ? 0 : 1);
    return byte;
  };
  // A length is 4 bits of a token and, if these are 15, all bytes up to one
  // that is not 255.
  const auto length = [&](size_t bits) {
    size_t more = bits == 15 ? 255 : 0;
    for (; more == 255; bits += more) more = next();
    return bits;
  };
  const size_t most = kMaxRatio * block.size();
  while (!block.empty()) {
    const size_t token = next(), literals = length(token >> 4);
    if (literals > block.size()) return false;
    text->append(block.substr(0, literals));
    block.remove_prefix(literals);
    if (block.empty()) return true;
    const size_t low = next(), distance = next() << 8 | low;
    const size_t end = text->size() + length(token & 15) + 4;
    if (distance == 0 || distance > text->size() || end > most) return false;
    while (text->size() < end) text->push_back((*text)[text->size() - distance]);
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
  Section sections[kSections];
  if (!read_sections({content, length}, &reader, sections)) return false;
  std::string_view json(reinterpret_cast<const char *>(sections[0].content),
                        sections[0].length);
  std::string text;
  reader.at("section JSON");
  if (reader.version() > 4) {
    if (!reader.expect(decompress(json, &text), "none", "a block of LZ4")) {
      return false;
    }
    json = text;
  }
  if (!reader.open(json, sections[1].content, sections[1].length)) return false;
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
