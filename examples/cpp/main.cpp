// SPDX-License-Identifier: MIT
// Hand joints in depth images, from C++: loads a package that `poseren export` compiled and runs it without Python.
//
//   estimate MODEL.pt2 FX,FY,CX,CY FRAME.pgm...
//
// MODEL.pt2: written by `poseren export MODEL.pt2 --detect HEIGHT WIDTH`, which includes the detection of the hand.
// FRAME.pgm: 16-bit portable graymaps of one size, mm, as the camera gives them.
// Prints one line per frame: x y z in mm of every joint; nan for a frame without a hand.
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

// count numbers, separated by commas.
std::vector<float> numbers(const std::string& text, size_t count) {
  std::vector<float> values;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) values.push_back(std::stof(part));
  if (values.size() != count) throw std::runtime_error(text + ": expected " + std::to_string(count) + " numbers");
  return values;
}

// A 16-bit graymap as a uint16 tensor [H, W].
at::Tensor read_pgm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  int64_t width = 0, height = 0, largest = 0;
  file >> magic >> width >> height >> largest;
  file.get();  // the one blank before the pixels
  if (!file || magic != "P5" || largest < 256 || width < 1 || height < 1 || width > 1 << 14 || height > 1 << 14) {
    throw std::runtime_error(path + ": no 16-bit graymap (P5)");
  }
  std::vector<char> bytes(2 * width * height);
  if (!file.read(bytes.data(), static_cast<std::streamsize>(bytes.size())))
    throw std::runtime_error(path + ": cut off");
  at::Tensor frame = at::empty({height, width}, at::kUInt16);
  auto* pixel = static_cast<uint16_t*>(frame.data_ptr());
  for (size_t i = 0; i < bytes.size(); i += 2) {  // the most significant byte comes first
    pixel[i / 2] = static_cast<uint16_t>(static_cast<uint8_t>(bytes[i]) << 8 | static_cast<uint8_t>(bytes[i + 1]));
  }
  return frame;
}

void estimate(const std::vector<std::string>& arguments) {
  const std::vector<float> intrinsics = numbers(arguments[1], 4);
  std::vector<at::Tensor> frames;
  std::transform(arguments.begin() + 2, arguments.end(), std::back_inserter(frames), read_pgm);
  const auto batch = static_cast<int64_t>(frames.size());
  const at::Tensor camera = at::tensor(intrinsics).expand({batch, 4}).contiguous();

  torch::inductor::AOTIModelPackageLoader model(arguments[0]);
  const std::vector<at::Tensor> result = model.run({at::stack(frames), camera});
  const at::Tensor joints = result[0].contiguous();  // [B, J, 3]
  for (int64_t i = 0; i < joints.numel(); ++i) {
    const bool last = (i + 1) % (joints.size(1) * 3) == 0;
    std::printf("%.9g%c", joints.data_ptr<float>()[i], last ? '\n' : ' ');
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 4) {
    std::fprintf(stderr, "usage: estimate MODEL.pt2 FX,FY,CX,CY FRAME.pgm...\n");
    return 2;
  }
  try {
    const c10::InferenceMode guard;
    estimate({arguments + 1, arguments + count});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "estimate: %s\n", error.what());
    return 1;
  }
}
