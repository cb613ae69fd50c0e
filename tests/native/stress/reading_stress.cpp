// Reads files of random rows and of random bytes with one thread and with several, in waves and as a whole,
// and compares; tests/native/stress/sanitize.sh builds it under the sanitizers. Prints one line and returns 0, or
// says what was wrong.
#include <unistd.h>

#include <random>
#include <string>

#include "stress.hpp"
#include "svmlight/reader.hpp"

using namespace loosestep::svmlight;

namespace {

const auto go_on = [] { return false; };

struct Told {  // what came of a file
  std::vector<std::int64_t> starts;
  std::vector<std::int32_t> features;
  std::vector<float> values;
  std::vector<double> targets;
  std::string wrong;

  bool operator==(const Told&) const = default;
};

void take(Reader<float>& reader, std::size_t rows, Told& told) {
  const Sizes amount = reader.available(rows);
  std::vector<std::int64_t> starts(amount.rows + 1);
  const std::size_t row = told.targets.size(), entry = told.features.size();
  told.targets.resize(row + amount.rows);
  told.features.resize(entry + amount.entries), told.values.resize(entry + amount.entries);
  reader.take(rows, 0,
              {starts.data(), told.features.data() + entry, told.values.data() + entry,
               told.targets.data() + row, nullptr},
              go_on);
  for (std::size_t i = 1; i < starts.size(); ++i)
    told.starts.push_back(starts[i] + static_cast<std::int64_t>(entry));
}

Told read(const File& file, int threads, std::size_t rows) {
  Told told;
  Reader<float> reader(file, {0, file.size}, {}, threads);
  try {
    for (std::size_t before = 1; told.targets.size() != before;) {
      before = told.targets.size();
      reader.fill(rows, go_on);
      take(reader, rows, told);
    }
  } catch (const InvalidLine& line) {
    return {{}, {}, {}, {}, line.what()};
  }
  return told;
}

std::string row(std::mt19937& random) {
  std::string text = std::to_string(random() % 3);
  unsigned feature = 0;
  for (unsigned left = random() % 40; left > 0; --left)
    text += " " + std::to_string(feature += 1 + random() % 9) + ":" + std::to_string(1e-3 * random());
  return text + (random() % 50 ? "\n" : " # 3:4\r\n");
}

std::string bytes(std::mt19937& random) {  // rather those that mean something
  static constexpr char known[] = "0123456789 :.-+eEqid#\n\r\t";
  std::string text(random() % 200, ' ');
  for (char& c : text) c = random() % 20 ? known[random() % (sizeof known - 1)] : static_cast<char>(random());
  return text;
}

File written(const std::string& text) {
  std::FILE* const file = std::tmpfile();
  check(file != nullptr, "a temporary file can be made");
  check(std::fwrite(text.data(), 1, text.size(), file) == text.size() && std::fflush(file) == 0,
        "it is written");
  const int descriptor = dup(fileno(file));
  std::fclose(file);
  return File::of(descriptor);
}

void compare(const std::string& text, long number) {
  const File file = written(text);
  const Told wanted = read(file, 1, Reader<float>::all);
  check(read(file, 3, Reader<float>::all) == wanted, "three threads read what one reads", number);
  check(read(file, 3, 500).wrong == wanted.wrong, "and in waves find the same bad line", number);
  check(!wanted.wrong.empty() || read(file, 2, 500) == wanted, "and the same rows", number);
  close(file.descriptor);
}

}  // namespace

int main(int, char** arguments) {
  const long scale = std::atol(arguments[1]);
  std::mt19937 random(1);
  for (long number = 0; number < 10 * scale; ++number) {
    std::string text;
    while (text.size() < 1'000'000) text += row(random);
    compare(text, number);
    text.insert(random() % text.size(), bytes(random));
    compare(text, number);
  }
  for (long number = 0; number < 300 * scale; ++number) compare(bytes(random), number);
  std::puts("reading: the same rows and the same errors with any number of threads");
}
