// Reads model.aqd: docs/file_format.md.

#include <cstring>

#include "format/model.h"
#include "format/reader.h"

namespace aqd {
namespace {

constexpr char kMagic[] = "\x89"
                          "AQD\r\n\x1a\n";
constexpr uint32_t kVersion = 4;
constexpr size_t kHeader = 16;
constexpr size_t kSection = 16;
constexpr size_t kSections = 2;
constexpr const char *kTags[kSections] = {"JSON", "DATA"};

uint32_t u32_at(const uint8_t *at) {
  return at[0] | at[1] << 8 | at[2] << 16 | static_cast<uint32_t>(at[3]) << 24;
}

uint64_t u64_at(const uint8_t *at) {
  return u32_at(at) | static_cast<uint64_t>(u32_at(at + 4)) << 32;
}

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
  const uint64_t length = u64_at(entry + 8);
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
  const uint32_t expected = u32_at(entry + 4);
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
  const uint32_t version = u32_at(file.content + 8);
  const uint32_t count = u32_at(file.content + 12);
  reader->set_version(version);
  if (!reader->expect(version == kVersion || version == 3,
                      text(version) + ": compile the detector again",
                      "version 3 or %, which this engine reads", kVersion) ||
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
  const std::string_view json(
      reinterpret_cast<const char *>(sections[0].content), sections[0].length);
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
