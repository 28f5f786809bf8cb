// The C interface. Functions return 0, or -1 with a message in r1_error.
#include <stdexcept>

#include "step.h"

using namespace r1;

namespace {

enum Part : int {
  PART_EMBEDDING = 0, PART_HEAD, PART_FINAL_NORM, PART_ATTENTION_NORM, PART_FEED_FORWARD_NORM,
  PART_INPUT, PART_INPUT_BIAS, PART_Q_NORM, PART_K_NORM, PART_Q_A_NORM, PART_KV_A_NORM, PART_Q_B, PART_KV_B,
  PART_OUTPUT, PART_OUTPUT_BIAS, PART_GATE, PART_UP, PART_DOWN, PART_ROUTER, PART_ROUTER_CORRECTION,
  PART_EXPERT_GATE, PART_EXPERT_UP, PART_EXPERT_DOWN, PART_SHARED_GATE, PART_SHARED_UP, PART_SHARED_DOWN,
  PART_ROPE, PART_DRAFT_EMBEDDING_NORM, PART_DRAFT_STATE_NORM, PART_DRAFT_PROJECTION, PART_DRAFT_HEAD_NORM
};

int fail(Model& model, const char* message) {
  model.error = message;
  return -1;
}

// Packs in parallel: a large checkpoint is bound by this.
void pack_all(Model& model, Matrix& m, const Stored& s, int offset, int step) {
  const int part = 64;
  model.pool.run([&](Worker& worker) {
    worker.share(ceil_div(s.rows, part), 1, [&](int begin, int end) {
      pack_rows(m, s, offset, step, begin * part, std::min(end * part, s.rows));
    });
  });
}

void put_vector(std::vector<float>& to, const Stored& s) {
  to.resize(size_t(s.rows) * s.cols);
  for (int r = 0; r < s.rows; r++) decode_row(s, r, to.data() + size_t(r) * s.cols);
}

void put_bias(Matrix& m, const Stored& s, int offset) {
  if (m.empty() || offset + s.rows * s.cols > m.width()) throw std::invalid_argument("a bias comes before its matrix, or is longer");
  if (!m.bias) m.bias = static_cast<float*>(std::calloc(m.width(), sizeof(float)));
  std::vector<float> values;
  put_vector(values, s);
  std::copy(values.begin(), values.end(), m.bias + offset);
}

// Splits kv_b_proj into W_UK, which the absorbed form applies to queries, and W_UV.
void put_kv_b(Layer& layer, const Stored& s, Codec codec) {
  const R1LayerShape& l = layer.shape;
  const int key_ld = layer.key_ld(), value_ld = layer.value_ld(), per_head = l.nope + l.v_dim;
  layer.to_key.allocate(codec, l.heads * key_ld, l.nope);
  layer.to_value.allocate(codec, l.heads * value_ld, l.kv_lora);
  std::vector<float> row(l.kv_lora), turned(size_t(l.kv_lora) * l.nope);
  for (int h = 0; h < l.heads; h++) {
    for (int d = 0; d < l.nope; d++) {
      decode_row(s, h * per_head + d, row.data());
      for (int c = 0; c < l.kv_lora; c++) turned[size_t(c) * l.nope + d] = row[c];
    }
    const Stored keys{SOURCE_F32, l.kv_lora, l.nope, reinterpret_cast<const uint8_t*>(turned.data()), nullptr};
    pack_rows(layer.to_key, keys, h * key_ld, LANES, 0, l.kv_lora);
    for (int d = 0; d < l.v_dim; d++) pack_row(layer.to_value, h * value_ld + d, s, h * per_head + l.nope + d, row);
  }
}

// A wrong index would read or write other memory: checked here, once for all kernels.
const char* wrong_plan(const Model& model, const R1Plan& p) {
  const R1Shape& shape = model.shape;
  if (p.rows < 1 || p.sequences < 1 || p.query_starts[0] != 0 || p.query_starts[p.sequences] != p.rows)
    return "the rows of the sequences are not the rows of the step";
  for (int t = 0; t < p.rows; t++) {
    if (p.tokens[t] < 0 || p.tokens[t] >= shape.vocab) return "a token is outside of the vocabulary";
    if (p.positions[t] < 0 || p.positions[t] >= shape.max_positions) return "a position is beyond the longest sequence";
  }
  for (int s = 0; s < p.sequences; s++) {
    const int first = p.query_starts[s], last = p.query_starts[s + 1];
    if (last <= first || p.positions[last - 1] + 1 != p.context_lengths[s] ||
        p.positions[last - 1] - p.positions[first] != last - first - 1)
      return "the positions of a sequence are not adjacent up to its length";
    const int blocks = p.block_starts[s + 1] - p.block_starts[s];
    if (blocks * shape.block_size < p.context_lengths[s]) return "a sequence has too few blocks";
    for (int b = p.block_starts[s]; b < p.block_starts[s + 1]; b++)
      if (p.blocks[b] < 0 || p.blocks[b] >= shape.blocks) return "a block is outside of the cache";
  }
  for (int i = 0; i < p.outputs; i++) {
    if (p.output_rows[i] < 0 || p.output_rows[i] >= p.rows) return "an output row is outside of the step";
    if (p.targets[i] >= shape.vocab) return "a target is outside of the vocabulary";
    for (int a = p.adjust_starts[i]; a < p.adjust_starts[i + 1]; a++)
      if (p.adjust_tokens[a] < 0 || p.adjust_tokens[a] >= shape.vocab) return "an adjusted token is outside of the vocabulary";
    if (i && p.output_rows[i] <= p.output_rows[i - 1]) return "the output rows do not ascend";
    if (p.masks[i] >= 0 && p.mask_words * 32 < shape.vocab) return "a mask is shorter than the vocabulary";
  }
  for (int t = 0; p.next_tokens && t < p.rows; t++)
    if (p.next_tokens[t] >= shape.vocab) return "a following token is outside of the vocabulary";
  return nullptr;
}

template <class E>
size_t cache_bytes(const Model& model, const Layer& layer) {
  const size_t blocks = model.shape.blocks, element = sizeof(typename E::type);
  if (layer.shape.latent) return (blocks * model.shape.block_size * LatentCache<E>(layer).row + 64) * element;
  return (blocks * GqaCache<E>(layer, model.shape.block_size).block_values + 64) * element;
}

// Calls body with the element type of the cache.
template <class Body>
void with_cache_type(const Model& model, Body body) {
  switch (model.shape.cache_type) {
    case CACHE_F32: return body(F32());
    case CACHE_F16: return body(F16());
    case CACHE_BF16: return body(BF16());
    case CACHE_INT8: return body(PackedInt8());
    case CACHE_INT4: return body(PackedInt4());
    case CACHE_F8: return body(PackedF8());
  }
  throw std::invalid_argument("unknown type of the cache");
}

void allocate_caches(Model& model) {
  for (size_t i = 0; i < model.layers.size(); i++) {
    Layer& layer = *model.layers[i];
    layer.index = int(i);
    if (model.sparsity.on()) layer.summary.allocate(summary_bytes(model, layer));
  }
  for (Layer* layer : model.all_layers())
    with_cache_type(model, [&](auto type) { layer->cache.allocate(cache_bytes<decltype(type)>(model, *layer)); });
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

int r1_version() { return 3; }

Model* r1_create(const R1Shape* shape, int threads) {
  auto model = std::make_unique<Model>();
  model->shape = *shape;
  model->pool.resize(threads);
  return model.release();
}

void r1_destroy(Model* model) { delete model; }
const char* r1_error(const Model* model) { return model->error.c_str(); }
void r1_set_threads(Model* model, int threads) { model->pool.resize(threads); }

// Adds the next layer, or with `draft` the layer that drafts a token, whose number is that of the layers.
int r1_add_layer(Model* model, const R1LayerShape* shape, int draft) {
  auto layer = std::make_unique<Layer>();
  layer->shape = *shape;
  for (int e = 0; e < shape->experts; e++) {
    layer->expert_gate_up.push_back(std::make_unique<Matrix>());
    layer->expert_down.push_back(std::make_unique<Matrix>());
  }
  layer->places = std::vector<ExpertPlace>(shape->experts);
  layer->uses.assign(shape->experts, 0);
  if (draft) model->draft = std::move(layer);
  else model->layers.push_back(std::move(layer));
  return 0;
}

// Puts a stored tensor in its place. `offset` and `total` are the first row and the number of rows of a
// matrix that several tensors make up; `expert` is the expert's number.
int r1_put(Model* model, int at, int part, int expert, int source, int codec_number, int rows, int cols, int offset,
           int total, const void* data, const float* scale) try {
  const Stored s{Source(source), rows, cols, static_cast<const uint8_t*>(data), scale};
  const Codec codec = Codec(codec_number);
  Layer* layer = at < 0 ? nullptr : at < int(model->layers.size()) ? model->layers[at].get() : model->draft.get();
  auto whole = [&](Matrix& m) {
    if (m.empty()) m.allocate(codec, total ? total : rows, cols);
    if (m.codec == CODEC_F8 && s.source != SOURCE_F8) return fail(*model, "float8 panels need float8 tensors");
    pack_all(*model, m, s, offset, LANES);
    return 0;
  };
  auto paired = [&](Matrix& m, int second) {
    if (m.empty()) m.allocate(codec, 2 * round_up(rows, LANES), cols);
    if (m.codec == CODEC_F8 && s.source != SOURCE_F8) return fail(*model, "float8 panels need float8 tensors");
    pack_all(*model, m, s, second * LANES, 2 * LANES);
    return 0;
  };
  switch (Part(part)) {
    case PART_EMBEDDING: return whole(model->embedding);
    case PART_HEAD: return whole(model->head);
    case PART_FINAL_NORM: put_vector(model->final_norm, s); return 0;
    case PART_ATTENTION_NORM: put_vector(layer->attention_norm, s); return 0;
    case PART_FEED_FORWARD_NORM: put_vector(layer->feed_forward_norm, s); return 0;
    case PART_INPUT: return whole(layer->input);
    case PART_INPUT_BIAS: put_bias(layer->input, s, offset); return 0;
    case PART_Q_NORM: put_vector(layer->q_norm, s); return 0;
    case PART_K_NORM: put_vector(layer->k_norm, s); return 0;
    case PART_Q_A_NORM: put_vector(layer->q_a_norm, s); return 0;
    case PART_KV_A_NORM: put_vector(layer->kv_a_norm, s); return 0;
    case PART_Q_B: return whole(layer->q_b);
    case PART_KV_B: put_kv_b(*layer, s, codec); return 0;
    case PART_OUTPUT: return whole(layer->output);
    case PART_OUTPUT_BIAS: put_bias(layer->output, s, 0); return 0;
    case PART_GATE: return paired(layer->gate_up, 0);
    case PART_UP: return paired(layer->gate_up, 1);
    case PART_DOWN: return whole(layer->down);
    case PART_ROUTER: return whole(layer->router);
    case PART_ROUTER_CORRECTION: put_vector(layer->correction, s); return 0;
    case PART_EXPERT_GATE: return paired(*layer->expert_gate_up[expert], 0);
    case PART_EXPERT_UP: return paired(*layer->expert_gate_up[expert], 1);
    case PART_EXPERT_DOWN: return whole(*layer->expert_down[expert]);
    case PART_SHARED_GATE: return paired(layer->shared_gate_up, 0);
    case PART_SHARED_UP: return paired(layer->shared_gate_up, 1);
    case PART_SHARED_DOWN: return whole(layer->shared_down);
    case PART_ROPE: put_vector(layer->inverse_frequencies, s); return 0;
    case PART_DRAFT_EMBEDDING_NORM: put_vector(model->draft_embedding_norm, s); return 0;
    case PART_DRAFT_STATE_NORM: put_vector(model->draft_state_norm, s); return 0;
    case PART_DRAFT_PROJECTION: return whole(model->draft_projection);
    case PART_DRAFT_HEAD_NORM: put_vector(model->draft_head_norm, s); return 0;
  }
  return fail(*model, "unknown part");
} catch (const std::exception& error) {
  return fail(*model, error.what());
}

// Sets sparse attention, first before r1_finish; `heads` modes in all layers together. A later policy
// estimates what it does not read only where the first one did.
void r1_set_sparsity(Model* model, const R1Sparsity* sparsity, int heads) {
  model->sparsity.options = *sparsity;
  if (!model->layers[0]->cache.data()) model->sparsity.values = sparsity->correct;
  model->sparsity.modes.assign(sparsity->modes, sparsity->modes + heads);
}

// Slots that sparse attention read, and slots of the contexts, since the last call; once per query row and head.
void r1_take_read_slots(Model* model, int64_t* read, int64_t* context) {
  *read = *context = 0;
  for (auto& own : model->scratch) {
    *read += own->read_slots;
    *context += own->context_slots;
    own->read_slots = own->context_slots = 0;
  }
}

// Allocates caches and rotary tables; every tensor has been put.
int r1_finish(Model* model) try {
  allocate_caches(*model);
  for (Layer* layer : model->all_layers()) {
    const R1LayerShape& l = layer->shape;
    const Layer* first = model->layers[0].get();
    if (layer != first && layer->inverse_frequencies == first->inverse_frequencies &&
        l.cos_sin_scale == first->shape.cos_sin_scale) {
      layer->cos_table = first->cosines.data();
      layer->sin_table = first->sines.data();
      continue;
    }
    const int half = l.rope_dim / 2;
    layer->cosines.resize(size_t(model->shape.max_positions) * half);
    layer->sines.resize(size_t(model->shape.max_positions) * half);
    for (int p = 0; p < model->shape.max_positions; p++)
      for (int i = 0; i < half; i++) {
        const float angle = float(p) * layer->inverse_frequencies[i];
        layer->cosines[size_t(p) * half + i] = std::cos(angle) * l.cos_sin_scale;
        layer->sines[size_t(p) * half + i] = std::sin(angle) * l.cos_sin_scale;
      }
    layer->cos_table = layer->cosines.data();
    layer->sin_table = layer->sines.data();
  }
  return 0;
} catch (const std::exception& error) {
  return fail(*model, error.what());
}

// Frees the caches. No step can run until r1_allocate_cache.
void r1_release_cache(Model* model) {
  for (Layer* layer : model->all_layers()) layer->cache.clear(), layer->summary.clear();
}

int r1_allocate_cache(Model* model) try {
  allocate_caches(*model);
  return 0;
} catch (const std::exception& error) {
  return fail(*model, error.what());
}

int r1_step(Model* model, const R1Plan* plan) try {
  if (const char* message = wrong_plan(*model, *plan)) return fail(*model, message);
  if (!model->layers[0]->cache.data()) return fail(*model, "the cache is released");
  with_cache_type(*model, [&](auto type) { step<decltype(type)>(*model, *plan); });
  promote_experts(*model);
  return 0;
} catch (const std::exception& error) {
  return fail(*model, error.what());
}

// Chooses experts by router mass from the next step on; mass 0 is the layers' own number.
void r1_set_expert_gate(Model* model, float mass, int minimum, int maximum) { model->gate = {mass, minimum, maximum}; }

// Tokens that each expert of a layer has computed.
void r1_expert_uses(const Model* model, int at, uint64_t* uses) {
  const Layer& layer = *model->layers[at];
  std::copy(layer.uses.begin(), layer.uses.end(), uses);
}

// Prepares a file in `folder` for the experts that r1_store_expert puts there.
int r1_open_expert_file(Model* model, const char* folder) try {
  model->expert_file.create(folder);
  return 0;
} catch (const std::exception& error) {
  return fail(*model, error.what());
}

// Stores a matrix of an expert that is complete: `which` 0 is gate and up, 1 is down.
int r1_store_expert(Model* model, int at, int expert, int which, int resident) try {
  Layer& layer = *model->layers[at];
  Matrix& matrix = which ? *layer.expert_down[expert] : *layer.expert_gate_up[expert];
  model->expert_file.store(layer.places[expert], matrix, which, resident);
  return 0;
} catch (const std::exception& error) {
  return fail(*model, error.what());
}

void r1_set_tiering(Model* model, int prefetch, int promote) {
  model->expert_file.promotes = promote;
  if (prefetch) model->expert_file.prefetcher.start();
  else model->expert_file.prefetcher.stop();
}

// rows of all layers with experts, experts that computed them, hits, misses, promotions, bytes in memory,
// bytes of the file.
void r1_expert_totals(const Model* model, uint64_t* out) {
  const ExpertFile& file = model->expert_file;
  const uint64_t counts[] = {model->routed_rows, model->routed_pairs, file.hits, file.misses, file.promotions, file.resident_bytes, file.bytes()};
  std::copy(std::begin(counts), std::end(counts), out);
}

// For measurements: the next read of a mapped expert reads the disk.
void r1_evict_experts(Model* model) {
  std::vector<const Memory*> mapped;
  for (auto& layer : model->layers)
    for (int e = 0; e < layer->shape.experts; e++) {
      ExpertPlace& place = layer->places[e];
      const Memory* own[] = {&layer->expert_gate_up[e]->memory, &layer->expert_down[e]->memory};
      for (int i = 0; place.stored && i < 2; i++) mapped.push_back(place.resident ? &place.other[i] : own[i]);
    }
  model->expert_file.evict(mapped);
}

}  // extern "C"
#pragma GCC visibility pop
