// SPDX-License-Identifier: MIT
#include "core/kernels.h"
#include "ops/depth.h"
#include "ops/device.h"

namespace poseren::ops {

namespace {

// float32 [batch, columns], one row per sample or, with stride 0, one row for all. Copied if its columns are not
// adjacent.
SampleRows sample_rows(const char* op, const char* name, Tensor& tensor, int64_t columns, const Tensor& depth) {
  check_coordinates(op, name, tensor, {depth.size(0), columns}, depth);
  if (tensor.stride(1) != 1) tensor = as_contiguous(op, tensor);
  return {data<const float>(tensor), tensor.stride(0)};
}

// A CropGeometry's arrays with the tensors that own them.
struct GeometryTensors {
  Tensor center, camera, cube;
  std::optional<Tensor> transform;
  CropGeometry geometry{};

  GeometryTensors(const char* op, const Tensor& depth, const Tensor& center, const Tensor& camera, const Tensor& cube,
                  const std::optional<Tensor>& transform)
      : center(coordinates(op, "center", center, {depth.size(0), 3}, depth)), camera(camera), cube(cube) {
    geometry.center = data<const float>(this->center);
    geometry.camera = sample_rows(op, "camera", this->camera, 4, depth);
    geometry.cube = sample_rows(op, "cube", this->cube, 3, depth);
    if (!transform) return;
    this->transform = coordinates(op, "transform", *transform, {depth.size(0), 2, 3}, depth);
    geometry.transform = data<const float>(*this->transform);
  }
};

CropGeometry crop_geometry(const char* op, const GeometryTensors& tensors, int64_t size, int64_t invalid,
                           double invalid_value, bool nearest, double depth_unit) {
  check(size >= 2 && size < INT32_MAX, op, "size must be at least 2");
  check(invalid >= 0 && invalid <= 2, op, "invalid must be 0, 1 or 2");
  CropGeometry geometry = tensors.geometry;
  geometry.size = size;
  geometry.unit = static_cast<float>(depth_unit);
  geometry.invalid = static_cast<Invalid>(invalid);
  geometry.invalid_value = static_cast<float>(invalid_value);
  geometry.nearest = nearest;
  return geometry;
}

DType crop_dtype(const char* op, const char* name, ScalarType type) {
  check(type == ScalarType::Float || type == ScalarType::Half || type == ScalarType::BFloat16, op, name,
        " must be float32, float16 or bfloat16");
  return type == ScalarType::Half ? DType::f16 : type == ScalarType::BFloat16 ? DType::bf16 : DType::f32;
}

}  // namespace

template <class Queue>
Tensor depth_crop(Tensor depth, Tensor center, Tensor camera, Tensor cube, std::optional<Tensor> transform,
                  int64_t size, int64_t invalid, double invalid_value, bool nearest, double depth_unit,
                  ScalarType dtype) {
  const char* op = "depth_crop";
  DepthCrop p{};
  p.depth = depth_frames(op, depth);
  const GeometryTensors tensors(op, depth, center, camera, cube, transform);
  p.geometry = crop_geometry(op, tensors, size, invalid, invalid_value, nearest, depth_unit);
  p.crop_dtype = crop_dtype(op, "dtype", dtype);
  const DeviceScope<Queue> device(depth);
  Tensor crop = new_tensor(op, depth, {p.depth.batch, 1, size, size}, dtype);
  p.crop = crop.data_ptr();
  run(p, device.queue());
  return crop;
}

// The gradient is float32 whatever the dtype of depth.
template <class Queue>
Tensor depth_crop_backward(Tensor grad, Tensor depth, Tensor center, Tensor camera, Tensor cube,
                           std::optional<Tensor> transform, int64_t invalid, double invalid_value, bool nearest,
                           double depth_unit) {
  const char* op = "depth_crop_backward";
  DepthCropBackward p{};
  p.depth = depth_frames(op, depth);
  const GeometryTensors tensors(op, depth, center, camera, cube, transform);
  check(grad.dim() == 4 && has_shape(grad, {p.depth.batch, 1, grad.size(2), grad.size(2)}), op,
        "grad must be [B, 1, S, S]");
  check(grad.device() == depth.device(), op, "grad must be on the device of depth");
  p.geometry = crop_geometry(op, tensors, grad.size(2), invalid, invalid_value, nearest, depth_unit);
  p.grad_dtype = crop_dtype(op, "grad", grad.scalar_type());
  grad = as_contiguous(op, grad);
  const DeviceScope<Queue> device(depth);
  Tensor depth_grad = new_tensor(op, depth, {p.depth.batch, p.depth.height, p.depth.width}, ScalarType::Float);
  p.grad = grad.data_ptr();
  p.depth_grad = data<float>(depth_grad);
  run(p, device.queue());
  return depth_grad;
}

}  // namespace poseren::ops

POSEREN_REGISTER(depth_crop)
POSEREN_REGISTER(depth_crop_backward)
