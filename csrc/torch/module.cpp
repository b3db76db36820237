// lowbit._C: what is not an op. The format tables as records, and which kernels this processor runs.
#include <pybind11/complex.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <complex>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/philox.h"
#include "common/spec.h"
#include "cpu/dispatch.h"
#include "cpu/gemm.h"
#include "cpu/plane_product.h"
#include "formats/codec.h"
#include "formats/layout.h"

namespace py = pybind11;

namespace lowbit {
namespace {

const char* kind_name(const ElementFormat& f) {
  switch (f.kind) {
    case Kind::kInt: {
      constexpr const char* rules[] = {"signed", "unsigned", "bipolar", "ternary", "complex"};
      return rules[f.rule];
    }
    case Kind::kFloat: return "float";
    case Kind::kTable: return "table";
    default: return "codebook";
  }
}

py::dict record(const ElementFormat& f) {
  constexpr const char* specials[] = {"finite", "nan_only", "ieee", "power"};
  constexpr const char* layouts[] = {"planes", "bytes", "packed6", "packed4"};
  constexpr const char* ties[] = {"even", "down"};
  py::dict d;
  d["name"] = f.name;
  d["kind"] = kind_name(f);
  d["bits"] = static_cast<int>(f.bits);
  d["exponent"] = static_cast<int>(f.exponent);
  d["mantissa"] = static_cast<int>(f.mantissa);
  d["bias"] = static_cast<int>(f.bias);
  d["specials"] = specials[f.specials];
  d["tie"] = ties[f.tie];
  d["layout"] = layouts[static_cast<int>(canonical(f))];
  d["int8_shift"] = int8_shift(f);
  d["exact_in_bf16"] = exact_in_bf16(f);
  py::list values;
  if (f.kind != Kind::kCodebook && !f.is_complex()) {
    for (int c = 0; c < f.codes(); ++c) values.append(decode(f, static_cast<uint32_t>(c)));
    d["scale_max"] = scale_max(f);
    d["max_code"] = max_code(f);
  }
  if (f.is_complex()) {
    for (uint32_t c = 0; c < 4; ++c) {
      const Complex v = decode_complex(c);
      values.append(std::complex<float>(static_cast<float>(v.real), static_cast<float>(v.imag)));
    }
  }
  d["values"] = values;
  return d;
}

py::dict record(const BlockFormat& b) {
  constexpr const char* rules[] = {"power_floor", "two_level"};
  py::dict d;
  d["name"] = b.name;
  d["element"] = b.element->name;
  d["block"] = b.block;
  d["scale"] = b.scale->name;
  d["scale_block"] = b.scale_block;
  d["scale_rule"] = rules[b.scale_rule];
  d["unit"] = b.unit;
  return d;
}

py::dict record(const Spec& s) {
  constexpr const char* layouts[] = {"canonical", "plain", "tile16", "mma64"};
  py::dict d;
  d["element"] = s.element->name;
  d["named"] = s.named != nullptr ? py::object(py::str(s.named->name)) : py::none();
  d["block"] = py::make_tuple(s.block.rows, s.block.cols);
  d["scale"] = s.scale != nullptr ? py::object(py::str(s.scale->name)) : py::none();
  d["scale_block"] =
      s.scale_has_scale ? py::object(py::make_tuple(s.scale_block.rows, s.scale_block.cols)) : py::none();
  d["unit"] = s.unit;
  d["layout"] = layouts[static_cast<int>(s.layout)];
  return d;
}

template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

const ElementFormat& format_of(const std::string& name) {
  Spec spec;
  const Status status = parse_spec("lowbit", "format", name, &spec);
  if (!status.ok()) throw std::invalid_argument(status.message());
  return *spec.element;
}

const float* codebook_of(const ElementFormat& f, const std::optional<Array<float>>& table) {
  if (f.kind != Kind::kCodebook) return nullptr;
  if (!table || table->size() != f.codes()) {
    throw std::invalid_argument(std::string("lowbit: table must hold the ") + std::to_string(f.codes()) +
                                " values of format " + f.name + ", got " +
                                (table ? std::to_string(table->size()) : "None") + "; one a code, ascending");
  }
  return table->data();
}

template <class From, class To, class F>
Array<To> each(const Array<From>& in, F f) {
  Array<To> out(std::vector<py::ssize_t>(in.shape(), in.shape() + in.ndim()));
  const From* from = in.data();
  To* to = out.mutable_data();
  for (py::ssize_t i = 0; i < in.size(); ++i) to[i] = f(from[i]);
  return out;
}

Array<uint8_t> encode_array(const std::string& name, const Array<float>& values,
                            const std::optional<Array<float>>& table) {
  const ElementFormat& f = format_of(name);
  const float* codebook = codebook_of(f, table);
  return each<float, uint8_t>(values, [&](float x) { return static_cast<uint8_t>(encode(f, x, codebook)); });
}

Array<float> decode_array(const std::string& name, const Array<uint8_t>& codes,
                          const std::optional<Array<float>>& table) {
  const ElementFormat& f = format_of(name);
  const float* codebook = codebook_of(f, table);
  const uint32_t mask = (1u << f.bits) - 1u;
  return each<uint8_t, float>(codes, [&](uint8_t c) { return decode(f, c & mask, codebook); });
}

Array<uint32_t> philox_words(uint64_t seed, uint64_t offset, py::ssize_t blocks) {
  Array<uint32_t> out({blocks, py::ssize_t{4}});
  for (py::ssize_t i = 0; i < blocks; ++i) {
    const PhiloxBlock block = Philox{seed, offset}.block(static_cast<uint64_t>(i));
    for (int w = 0; w < 4; ++w) out.mutable_at(i, w) = block.word[w];
  }
  return out;
}

Array<uint16_t> philox_bits(uint64_t seed, uint64_t offset, py::ssize_t count) {
  Array<uint16_t> out(count);
  for (py::ssize_t i = 0; i < count; ++i) {
    out.mutable_at(i) = static_cast<uint16_t>(Philox{seed, offset}.bits(static_cast<uint64_t>(i)));
  }
  return out;
}

}  // namespace
}  // namespace lowbit

PYBIND11_MODULE(_C, m) {
  using namespace lowbit;
  m.doc() = "Format tables and processor queries of lowbit.";
  m.def(
      "element_formats",
      [] {
        py::list rows;
        for (const ElementFormat& f : kFormats) rows.append(record(f));
        return rows;
      },
      "The rows of formats.def, with every code's value.");
  m.def(
      "block_formats",
      [] {
        py::list rows;
        for (const BlockFormat& b : kBlocks) rows.append(record(b));
        return rows;
      },
      "The rows of blocks.def.");
  m.def(
      "parse_spec",
      [](const std::string& text, const std::string& op, const std::string& argument) {
        Spec spec;
        const Status status = parse_spec(op.c_str(), argument.c_str(), text, &spec);
        if (!status.ok()) throw std::invalid_argument(status.message());
        return record(spec);
      },
      py::arg("text"), py::arg("op") = "lowbit", py::arg("argument") = "format",
      "A format string of the ops, parsed (grammar: common/spec.h). A block is (rows, cols), 0 for all; scale_block is "
      "None where the scales have no scales. Raises ValueError, in the name of `op` and `argument`.");
  m.def("encode", &encode_array, py::arg("format"), py::arg("values"), py::arg("table") = py::none(),
        "The code of every float32 value, uint8.");
  m.def("decode", &decode_array, py::arg("format"), py::arg("codes"), py::arg("table") = py::none(),
        "The float32 value of every code (the real part of a complex one).");
  m.def(
      "encode_complex",
      [](const Array<std::complex<float>>& values) {
        return each<std::complex<float>, uint8_t>(
            values, [](std::complex<float> z) { return static_cast<uint8_t>(encode_complex(z.real(), z.imag())); });
      },
      py::arg("values"), "The phase class of every complex64 value, codes of complex2.");
  m.def(
      "philox4x32_10",
      [](std::array<uint32_t, 4> c, std::array<uint32_t, 2> k) {
        const PhiloxBlock block = philox4x32_10({c[0], c[1], c[2], c[3]}, {k[0], k[1]});
        return std::array<uint32_t, 4>{block.word[0], block.word[1], block.word[2], block.word[3]};
      },
      py::arg("counter"), py::arg("key"), "One block of the Philox4x32-10 generator.");
  m.def("philox", &philox_words, py::arg("seed"), py::arg("offset"), py::arg("blocks"),
        "The words of `blocks` blocks from counter `offset` on, uint32 [blocks, 4].");
  m.def("philox_bits", &philox_bits, py::arg("seed"), py::arg("offset"), py::arg("count"),
        "The 16 random bits of elements 0 .. count - 1 of a stochastic op, uint16.");
#ifdef __clang__
  m.attr("compiler") = "clang " __clang_version__;
#else
  m.attr("compiler") = "gcc " __VERSION__;
#endif
  m.def("isa_list", &cpu::isa_list, "Names LOWBIT_ISA may have on this machine, best first.");
  m.def(
      "isa",
      [] {
        const cpu::Kernels* k = nullptr;
        const Status status = cpu::kernels(&k);
        if (!status.ok()) throw std::invalid_argument(status.message());
        return std::string(k->isa);
      },
      "The ISA whose kernels this process runs.");
  m.def(
      "kernels",
      [] {
        py::dict d;
        for (const auto& [op, isas] : cpu::own_kernels()) d[py::str(op)] = isas;
        return d;
      },
      "For every op with a kernel table entry, the ISAs that have a kernel of their own for it.");
  m.def(
      "force_isa",
      [](const std::string& name) {
        const Status status = cpu::force_isa(name.c_str());
        if (!status.ok()) throw std::invalid_argument(status.message());
      },
      py::arg("name"), "Changes the ISA of this process; for tests and benches.");
  m.def("bf16_dot", [] { return cpu::bf16_dot_is_fast(); }, "Whether bf16 products use the bf16 dot instruction.");
  m.def("force_bf16_dot", &cpu::force_bf16_dot, py::arg("use"), "Chooses; for tests and benches.");
  m.def(
      "gemm_family",
      [](const std::optional<std::string>& x_format, bool x_planes, const std::string& w_format) {
        Spec x, w;
        Status status = parse_spec("gemm_family", "w_format", w_format, &w);
        if (status.ok() && x_format) status = parse_spec("gemm_family", "x_format", *x_format, &x);
        if (!status.ok()) throw std::invalid_argument(status.message());
        return cpu::name_of(cpu::family_of(x.element, x_planes ? Layout::kCanonical : Layout::kPlain, *w.element));
      },
      py::arg("x_format"), py::arg("x_planes"), py::arg("w_format"),
      "The op that serves lowbit.gemm; x_format is None where x stays float.");
  m.def(
      "last_kernel", [] { return std::string(cpu::last_kernel()); },
      "The kernel that ran last, \"<family>:<isa>\"; with \":popcount\" where bit planes were counted, \":scaled\" "
      "where "
      "operands held their scales.");
  m.def(
      "popcount_rows",
      [](const std::string& isa, int w_bits, int x_bits) {
        const cpu::PlaneRows rows = cpu::plane_rows(isa.c_str(), w_bits, x_bits);
        return std::make_pair(rows.least, rows.most);
      },
      py::arg("isa"), py::arg("w_bits"), py::arg("x_bits"),
      "The least and the most rows of activations for which an ISA counts bit planes of integers of 1 to 8 bits; most "
      "is 0: never.");
}
