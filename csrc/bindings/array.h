// SPDX-License-Identifier: Apache-2.0
// The arrays of the bindings: Array<T, N>, a C-contiguous array of N dimensions on the module's device, of T, or of
// const T where it is only read. A call takes up to twenty of them, and DLPack's general way to one (its method
// __dlpack__, which is Python in torch, and a capsule around the answer) costs as much as a small kernel. A tensor of
// torch 2.10 or newer comes through the table of C functions that torch publishes beside the method (DLPack 1.3,
// DLPackExchangeAPI): it fills a structure on the stack. All else comes through nanobind's ndarray. Both ways ask for
// the same, and what fits neither is told in nanobind's words.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>

namespace nf {

namespace nb = nanobind;

#if defined(NF_CUDA) && !defined(NF_CUDA_ON_HOST)  // the tests run CUDA's kernels on the host
using Device = nb::device::cuda;
#else
using Device = nb::device::cpu;
#endif

// T may be void: any type, which dtype() tells.
template <typename T, int N>
class Array {
 public:
  using Exported = std::conditional_t<std::is_void_v<T>, nb::ndarray<nb::ndim<N>, nb::c_contig, Device>,
                                      nb::ndarray<T, nb::ndim<N>, nb::c_contig, Device>>;

  Array() = default;  // what None is
  explicit Array(Exported array) : owner_(std::move(array)) {
    if (owner_.is_valid()) set(owner_.data(), owner_.dtype(), owner_.shape_ptr());
  }

  // Becomes a view of the tensor, which its caller keeps; false if it is not such an array.
  bool view(const nb::dlpack::dltensor& tensor) noexcept {
    constexpr auto any = nb::dlpack::dtype(), dtype = nb::dtype<T>();
    if (tensor.device.device_type != Device::value || tensor.ndim != N) return false;
    if ((dtype != any && tensor.dtype != dtype) || !is_contiguous(tensor)) return false;
    set(static_cast<uint8_t*>(tensor.data) + tensor.byte_offset, tensor.dtype, tensor.shape);
    return true;
  }

  T* data() const { return static_cast<T*>(data_); }  // nullptr for None, and maybe for an array without elements
  size_t shape(int i) const { return static_cast<size_t>(shape_[i]); }
  int64_t size() const {
    int64_t n = 1;
    for (int64_t extent : shape_) n *= extent;
    return n;
  }
  nb::dlpack::dtype dtype() const { return dtype_; }

 private:
  void set(const void* data, nb::dlpack::dtype dtype, const int64_t* shape) {
    data_ = const_cast<void*>(data);
    dtype_ = dtype;
    std::copy_n(shape, N, shape_);
  }

  // Strides of axes that are never stepped along may be anything.
  static bool is_contiguous(const nb::dlpack::dltensor& tensor) {
    if (!tensor.strides || std::count(tensor.shape, tensor.shape + N, 0)) return true;
    int64_t step = 1;
    for (int i = N - 1; i >= 0; --i) {
      if (tensor.shape[i] != 1 && tensor.strides[i] != step) return false;
      step *= tensor.shape[i];
    }
    return true;
  }

  Exported owner_;
  void* data_ = nullptr;
  nb::dlpack::dtype dtype_;
  int64_t shape_[N] = {};
};

// DLPackExchangeAPI of DLPack 1, as far as its members are used here.
struct ExchangeTable {
  uint32_t major, minor;
  const void *previous, *allocate, *export_managed, *import_managed;
  int (*view)(void* object, nb::dlpack::dltensor* out);  // may be nullptr; 0 where it worked, or a Python error is set
};

// Fills `out` with a view of a tensor of torch; false where the object is none or torch cannot. The GIL is held.
inline bool view_tensor(PyObject* object, nb::dlpack::dltensor* out) noexcept {
  static PyTypeObject* type = nullptr;  // torch.Tensor, once torch is imported
  static const ExchangeTable* table = nullptr;
  if (!type) {
    PyObject* modules = PySys_GetObject("modules");
    PyObject* torch = modules ? PyDict_GetItemString(modules, "torch") : nullptr;
    PyObject* tensor = torch ? PyObject_GetAttrString(torch, "Tensor") : nullptr;
    if (tensor && PyType_Check(tensor)) {
      type = reinterpret_cast<PyTypeObject*>(tensor);  // kept for good
      if (PyObject* capsule = PyObject_GetAttrString(tensor, "__dlpack_c_exchange_api__")) {
        table = static_cast<const ExchangeTable*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
        if (table && (table->major != 1 || !table->view)) table = nullptr;
        Py_DECREF(capsule);
      }
    }
    PyErr_Clear();
  }
  if (!table || !PyObject_TypeCheck(object, type)) return false;
  if (table->view(object, out) == 0) return true;
  PyErr_Clear();
  return false;
}

}  // namespace nf

template <typename T, int N>
struct nanobind::detail::type_caster<nf::Array<T, N>> {
  using Array = nf::Array<T, N>;
  using Exported = make_caster<typename Array::Exported>;
  NB_TYPE_CASTER(Array, Exported::Name)

  bool from_python(handle source, uint32_t flags, cleanup_list* cleanup) noexcept {
    dlpack::dltensor tensor;
    if (nf::view_tensor(source.ptr(), &tensor)) {
      if (value.view(tensor)) return true;
      if (!(flags & cast_flags::convert)) return false;
    }
    Exported exported;
    if (!exported.from_python(source, flags, cleanup)) return false;
    value = Array(std::move(exported.value));
    return true;
  }
};
