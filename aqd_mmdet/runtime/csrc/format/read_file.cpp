// Reads model.aqd: docs/file_format.md.

#include <cstring>

#include "format/model.h"
#include "format/read_detector.h"
#include "format/read_program.h"
#include "graph/schedule.h"

namespace aqd {
namespace {

constexpr char kMagic[] = "\x89"
                          "AQD\r\n\x1a\n";
constexpr int64_t kVersion = 3;
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

// What lies behind the header.
struct Sections {
  const uint8_t *starts[kSections];
  size_t lengths[kSections];
};

// The file without its content, for the reader of its container.
class Container {
 public:
  Container(const uint8_t *content, size_t length, std::string *message)
      : content_(content), length_(length), message_(*message) {}

  bool read(Sections *sections) {
    constexpr size_t kTable = kHeader + kSections * kSection;
    const bool is_ours =
        length_ >= 8 && std::memcmp(content_, kMagic, 8) == 0;
    if (!expect(is_ours, "the file", "an .aqd file", "other first bytes") ||
        !expect(length_ >= kTable, "the file",
                "a header of " + number(kTable) + " bytes",
                number(length_))) {
      return false;
    }
    const int64_t version = u32_at(content_ + 8), count = u32_at(content_ + 12);
    if (!expect(version == kVersion, "the file",
                "version " + text(kVersion) + ", which this engine reads",
                text(version) + ": compile the detector again") ||
        !expect(count == kSections, "the file", number(kSections) + " sections",
                text(count))) {
      return false;
    }
    size_t at = kTable;
    for (size_t i = 0; i < kSections; ++i) {
      if (!section(i, at, sections)) return false;
      at += sections->lengths[i];
    }
    return expect(at == length_, "the file", "its end behind its sections",
                  number(length_ - at) + " bytes more");
  }

 private:
  // Reads the entry of a section whose content begins at a place.
  bool section(size_t index, size_t at, Sections *sections) {
    const uint8_t *entry = content_ + kHeader + index * kSection;
    const std::string where = std::string("section ") + kTags[index];
    const uint64_t length = u64_at(entry + 8), rest = length_ - at;
    if (!expect(std::memcmp(entry, kTags[index], 4) == 0, where, kTags[index],
                "another tag") ||
        !expect(length <= rest, where,
                text(static_cast<int64_t>(length)) + " bytes",
                text(static_cast<int64_t>(rest)) + ": the file is cut off")) {
      return false;
    }
    sections->starts[index] = content_ + at;
    sections->lengths[index] = static_cast<size_t>(length);
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    return true;
#else
    const uint32_t found = crc32(content_ + at, sections->lengths[index]);
    const uint32_t expected = u32_at(entry + 4);
    return expect(found == expected, where, "the checksum " + text(expected),
                  text(found) + ": the file is damaged");
#endif
  }

  bool expect(bool ok, const std::string &where, const std::string &expected,
              const std::string &found) {
    if (!ok) message_ = refusal(where, expected, found);
    return ok;
  }

  const uint8_t *content_;
  const size_t length_;
  std::string &message_;
};

bool parse(const Sections &sections, Json *json, std::string *message) {
  const std::string_view text_of(
      reinterpret_cast<const char *>(sections.starts[0]), sections.lengths[0]);
  size_t stop;
  if (parse_json(text_of, json, &stop)) return true;
  *message = refusal("section JSON", "JSON",
                     "a mistake at byte " + number(stop));
  return false;
}

// Reads the network and the programs of second stages.
bool read_programs(const Json &json, Reader *reader,
                   std::vector<Program> *programs) {
  const JsonNode &root = json.root();
  const JsonNode &regions = reader->child(root, "regions");
  std::vector<const JsonNode *> stages;
  if (regions.type != JsonType::kNull) {
    stages = reader->items(regions, "stages");
  }
  // Operators point into weights of their program: no program may move.
  programs->clear();
  programs->resize(1 + stages.size());
  read_program(reader->child(root, "program"), "Image", "program", reader,
               &programs->front());
  for (size_t i = 0; i < stages.size() && reader->ok(); ++i) {
    const std::string where = "stage " + number(i);
    read_program(reader->child(*stages[i], "program"), "Region", where, reader,
                 &(*programs)[i + 1]);
  }
  return reader->ok();
}

}  // namespace

bool load_model(const uint8_t *content, size_t length, Model *model,
                std::string *message) {
  message->clear();
  Sections sections;
  Json json;
  if (!Container(content, length, message).read(&sections) ||
      !parse(sections, &json, message)) {
    return false;
  }
  Reader reader(json, sections.starts[1], sections.lengths[1], message);
  if (!read_programs(json, &reader, &model->programs)) return false;
  model->refusal.clear();
  Reader rest(json, sections.starts[1], sections.lengths[1], &model->refusal);
  read_detector(json.root(), model->programs, &rest, &model->detector);
  for (Program &program : model->programs) schedule(&program);
  return true;
}

}  // namespace aqd
