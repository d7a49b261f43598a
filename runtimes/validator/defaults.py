"""Numbers that verdicts depend on, each with its reason. A recipe's `gates:` overrides them."""

from __future__ import annotations

# float32 artifacts compute the same function in another order: their error is of the size of
# eager's own. Over every classification model of torchvision (benchmarks/torchvision_models.md) the
# largest ratio of a correct artifact stays well under this; a weight that is wrong by 1 % gives
# thousands.
NOISE_FP32 = 16.0

# On edge values (a picture of zeros) rounding errors are the same everywhere and add up instead of
# averaging out: folding RegNet-Y-128GF's BatchNorms is right and gives 16 there. A fault still
# gives thousands.
EDGE_ALLOWANCE = 4.0

# Parts of a float32 output (an index of an axis) are judged in units of eager's own error there. A part
# has few values, of which the worst of thousands counts: so it is allowed four times as much. A unit is
# at least this share of the whole output's, since numbers of that size may have been subtracted.
PART_NOISE_ALLOWANCE = 4.0
PART_UNIT_SHARE = 1 / 64

# Lossy artifacts are judged by SQNR. One rounding to 11 (fp16) or 8 (bf16) significant bits is 74
# or 56 dB below the signal at most; errors of some dozen layers add up to about 30 dB above that
# floor. In int8 MobileNetV2, which quantizes badly, is at 19 to 23 dB
# (benchmarks/fast_artifacts.md) and agrees with eager on 96 to 98 % of photographs; a scale that is
# off by a power of two leaves a small net under 10 (tests/faults). int4 weights by groups of 32
# leave ViT-B/16 with random weights, whose every weight counts, at 13.5 dB and the shipped mlp at
# 27 (`burnish convert` of both with `quantize: int4`); a layer whose scales are off by a factor of
# two has an error as large as what it computes, 0 to 6 dB.
SQNR_DB = {"fp16": 40.0, "bf16": 25.0, "int8": 10.0, "int4": 8.0}

# Lossy outputs on real samples are also judged on what varies over the samples (parts.py): a
# constant has 0 dB there. 5 dB of the whole is an R2 of 0.68. A single index is asked for less, since
# the worst of a thousand classes is an outlier: to be more than a constant. First values.
VARIATION_SQNR_DB = {"fp16": 25.0, "bf16": 12.0, "int8": 5.0, "int4": 4.0}
PART_SQNR_DB = {"fp16": 15.0, "bf16": 6.0, "int8": 1.0, "int4": 1.0}
# An index whose error stands out from those beside it by more than this, in error and in SQNR, has a
# fault of its own: the rounding of one layer spreads over its outputs alike. It fails below the SQNR
# named here: 0.3 rms on one of ten logits is at 10 dB beside 25. First values.
# Axes of more indices than this, beside others, are places of a picture: there errors do differ.
OUTLIER_DB = 12.0
OUTLIER_AXIS = 64
OUTLIER_INDICES = 4
OUTLIER_SQNR_DB = {"fp16": 40.0, "bf16": 25.0, "int8": 15.0, "int4": 12.0}
# The same holds for a size among others (sizes.py), if there are so many.
OUTLIER_SIZES = 8
# Samples that a part's variation needs, indices of an axis beyond which its elements are points of
# a field rather than channels, and the share of the output's magnitude below which nothing varies.
PART_SAMPLES = 24
PART_AXIS = 4096
VARIATION_SHARE = 1e-10

# A lossy artifact may err more than its precision explains (outputs/honest.py) by this many dB. An
# int8 artifact computes what its quantized graph does, and 3 dB is a defect as large as the honest
# error, of the whole and of each part. Right ONNX artifacts are within 0.2 dB of their graphs (the
# subjects of benchmarks/mutants.py); other engines requantize in their own way: a part was 3.3 dB off
# in OpenVINO without VNNI, where saturation is part of it, and with VNNI none was measured. First
# values.
HONEST_DB, OTHER_ENGINE_DB = (3.0, 3.0), (6.0, 9.0)
# Samples that this is measured on, and values that a part needs.
HONEST_SAMPLES, HONEST_VALUES = 64, 16
# float16 and bfloat16 against eager with rounded numbers. PyTorch's own half precision is at most
# 0.9 dB above (a ViT's attention in bfloat16), a part 1.2 dB. ONNX Runtime on x86 rounds less often:
# the whole is 0.6 to 8 dB below, but a part was 3.0 dB above, of ten classes of a small classifier.
# Rounded weights are one draw, and some part is exact by chance: so a part counts as at least this
# share of its axis' mean. Over 9 subjects of benchmarks/mutants.py, 5 models of tests/adversary and two
# networks of torchvision, on 48 or 64 rows. Fewer are measured by default: rounding makes an operation 3
# to 10 times as dear.
HALF_DB = (3.0, 6.0)
LEVELED_SHARE = 0.5
HALF_SAMPLES = PART_SAMPLES
# Of what is only estimated: right artifacts lie between 13 dB below eager's rounding error times the
# ratio of the units and 1 dB above (benchmarks/mutants.md).
ESTIMATED_DB = 12.0
HALF_ROUNDING = {"fp16": 2.0**13, "bf16": 2.0**16}

# A pruned model computes another function, so its errors are compared with itself as exported, and
# its decisions with the model before pruning. With labels: removing 70 % of a small network's
# multiply-adds costs less than a point of accuracy after recovery (benchmarks/pruning.md); more
# than twice that is a pruning gone wrong. Without labels: int8 artifacts agree on 96 to 98 % of
# photographs, and a retrained network errs on other samples than before. Noise has no classes to
# lose.
PRUNED_ACCURACY_DROP = 0.02
PRUNED_AGREEMENT = 0.9

# The largest error of a lossy artifact on zeros, one constant, or values of one sign, as a share of the
# answer's magnitude. A first value: an answer that is three times as large is off by two, an honest int8
# that clips what calibration never saw by less than one and a half.
UNUSUAL_ERROR = {"fp16": 0.1, "bf16": 0.3, "int8": 1.5, "int4": 1.5}

# Whole numbers (indices, classes of pixels) in lossy artifacts: the share that must equal eager's. On
# noise decisions are close, and what is left is to be more than chance.
LOSSY_EQUAL = 0.85
LOSSY_EQUAL_ON_NOISE = 0.5

# The share of lists (detections) that may have a row twice which eager has once: clipped boxes do now
# and then.
REPEATED_LISTS = 0.1

# On real samples whole numbers are also compared with a constant, the most frequent value of a part:
# this share of its errors is avoided (int8 as PART_SQNR_DB: to be more than a constant), if so many
# numbers differ from it. And each value that eager gives is found in so many of its places, as far as
# a 95 % interval shows. First values.
NUMBERS_BEYOND_CONSTANT = {"fp16": 0.7, "bf16": 0.5, "int8": 0.2, "int4": 0.2}
NUMBERS_FOUND = {"fp16": 0.7, "bf16": 0.5, "int8": 0.3, "int4": 0.3}
NUMBERS_VARYING = 16

# A pruned model that is no classifier keeps nine tenths of what varies in its outputs over real samples
# (10 dB is an R2 of 0.9 against the model before). A first value: a denoiser that lost half of its
# multiply-adds without recovery is at 6 dB, and hardly better than its noisy input.
ORIGINAL_SQNR_DB = 10.0
ORIGINAL_SAMPLES = 8

# A quantized or cast classifier on real samples fails if it is proven, by a 95 % interval, to decide
# otherwise than eager on more than this share, or to have lost more than this of its accuracy: int8
# in sums of 16 bits, which saturate without VNNI, cost the shipped fashion_cnn 4 points.
# First values.
LOSSY_ACCURACY_DROP = 0.05
LOSSY_AGREEMENT = 0.85

# The most samples that an undecided gate proposes: nobody labels more.
MOST_SAMPLES = 1_000_000

# `parent_size` and `parent_speedup` are both 1: the purpose of structured pruning. An artifact that
# is no smaller holds masks or both models; an artifact that is no faster still multiplies by zeros.
# Sizes are those on disk if the same format without passes was built; otherwise (nothing is timed,
# or there is no such device to time on) those of the weights before and after the passes, from the
# manifest. That proves less: a format may add to a file as much as pruning removed from it.

# The share of the multiply-adds of a mode (runtimes/precision/table.py) that must be done in the
# precision asked for. Not all: an operator without a kernel in it stays float32 and is counted as
# such.
COMPUTE_SHARE = 0.9

# A mode that can quantize less than this share of a model, of its multiply-adds as well as of its
# weights, is refused before any work: nothing would get notably faster or smaller.
LEAST_QUANTIZED = 0.05

# The resolution of float32: if eager happens to be exact, its error counts as this share of the
# truth's rms, so that a ratio to it still means something.
ERROR_FLOOR = 2.0**-24
# An error below this is none: engines may take numbers under the smallest normal float32 for zero.
SMALLEST_ERROR = 2.0**-100

# Seeded probes if the recipe has no data, at the sizes to be fastest at. Enough for a wrong
# operator to show; statistics on accuracy need real data.
SYNTHETIC_PROBES = 8
# Of the samples, sessions are timed on changed copies of so many.
TIMED_SAMPLES = 4
# Samples of an evaluation without labels: enough for parts.py. Labelled ones are used whole, as far as
# their inputs take no more than this (1,780 photographs of 224 x 224): 2,000 prove half a point of
# accuracy, 16 do not prove twenty. If the same source trains, this share of it judges.
PICTURES = PART_SAMPLES
LABELLED_BYTES = 1 << 30
HELD_OUT_SHARE = 0.2

# Sizes that are tried beyond those that always are, and what they may cost together: elements of
# their inputs, in those of one sample at the best sizes.
PROBED_SIZES = 48
SIZE_COST = 64
# A large batch beside another large dimension is dear, and a path of its own in some kernels: it is
# tried with the third dimension small, and the batch as large as costs this much. Four such pairs
# may be added to the cost of the others.
LARGE_PAIR = 10.0
PAIRS_COST = 4 * LARGE_PAIR
# A model whose runs cost next to nothing is tried at more sizes: up to so many, as far as they take this
# many multiply-adds (a tenth of a second), calls of eager's operators (some microseconds each), and
# bytes of inputs, which travel with the build.
FREE_SIZES = 256
SIZE_WORK = 250_000_000
SIZE_OPERATORS = 25_000
SIZE_BYTES = 1 << 20

# The SQNR in dB by which a probe at another size may be worse than all samples together: it has few
# rows, which spread. A first value: a budget of 28 dB that holds on the samples is missed by 0.7 dB at
# one size (tests/converters/passes/quantize).
SIZE_ALLOWANCE_DB = 3.0

# Probes that are run again after others, twice, and then once more from several threads at once: an
# answer may depend on the calls before it. Each costs at most so many times the first one.
REPEATED_PROBES = 6
REPEATED_COST = 4
CALLING_THREADS = 3
# Answers that are looked at again after each later call: an engine may return the same two or three
# arrays in turn.
REMEMBERED_ANSWERS = 4
# Of the first probes it is also asked after the timing.
FIRST_PROBES = 2

# Calls in a row of a model with a state, and the SQNR in dB that a float32 artifact must keep over them
# on its own state: rounding errors grow from call to call, a state that is not passed on leaves 0.
SEQUENCE_STEPS = 8
SEQUENCE_SQNR_DB = 60.0

# Probes that are sent to a session in one message. Sessions live side by side until all are timed,
# and what the allocator once had of the system it keeps: with 400 pictures at once, nine sessions
# held 240 MB each for nothing.
PROBES_PER_CALL = 8

# Scales of the standard normal noise in edge probes. A thousand times the usual input still leaves
# float32 room for the squares and exponents of layers; a thousandth of it is lost if an epsilon is
# too large.
LARGE, SMALL = 1e3, 1e-3
# Between the ordinary and the thousandfold: where saturation begins. And numbers below the smallest
# normal float32, which engines may take for zero.
LARGER, DENORMAL = 30.0, 1e-40
# White noise averages out in layers that look at many places. So there are also inputs of coarse
# structure, blocks of this many places, and inputs of another contrast and offset.
BLOCK = 8
FAINT, STRONG, OFFSET = 0.3, 3.0, 1.0
# Pictures of one colour: what a network makes of them differs from one to the next more than of
# noise (benchmarks/mutation: a unit that no noise switches on, one colour in four does), so a batch
# has at least so many.
REGION_ROWS = 8

# Sets of inputs that are added so that each id of an embedding occurs once: 16 sets of 128 tokens
# hold 2,048 ids. A batch is as large as it takes to hold so many, if a sample has fewer.
ID_PROBES, IDS_PER_PROBE = 16, 128

# A reference whose outputs differ between inputs by less than this share of their rms is constant:
# any artifact "agrees" with it.
CONSTANT_SPREAD = 1e-6

# An eager model whose two runs differ by more than this share of its output's rms has no truth:
# rounding that depends on the order of threads stays far below, dropout that is left on far above.
UNREPEATABLE = 1e-3

# Speed: bursts of about this long, each after a warm-up that is not timed (idle thread pools and
# caches are slow at first: the same int8 session measured 1.0 ms and 1.76 ms median without it).
BURST_SECONDS = 0.05
WAKE_SECONDS = 0.015
MIN_BURST_RUNS = 3
# Warm-up goes on while a burst is faster than the best one before by more than this share.
WARM_UP_GAIN = 0.02
WARM_UP_PATIENCE = 3
WARM_UP_SECONDS = 2.0
# A measurement ends when every gate is decided and the 95 % interval of the ratio is this narrow
# (half its width over the ratio) ... A tenth separates 2x from 1.8x, which is what people choose an
# artifact by, and takes a ninth of the rounds of 3 %. `burnish bench`, which is asked for the
# figure itself, wishes for 3 %.
HALF_WIDTH = 0.10
BENCH_HALF_WIDTH = 0.03
MIN_ROUNDS = 8
# ... or when this much time per artifact is spent, with warm-up, waiting for the machine, and
# throughput; then the row says `unstable`.
BUDGET_SECONDS = 8.0
# Shares of the budget: of throughput and of the comparison of timed answers, that follow the
# bursts; and the largest of warm-up (of all sessions) and of waiting for the machine.
AFTERWARDS_SHARE = 0.2
WARM_UP_SHARE = 0.2
PATIENCE_SHARE = 0.25
# A ratio of few rounds, or of a machine that is slower than usual, decides a gate if it is beyond it
# by this factor: two threads of one core take up to half as long again (pace.py).
UNSURE_FACTOR = 1.5
# Measurements that left a gate undecided, and are pooled with the next under the same conditions: at
# most so many, and none whose interval is wider than this factor.
MOST_LAUNCHES = 8
KEPT_SPREAD = 2.0
# The longest measurement that an undecided gate proposes.
LONGEST_SECONDS = 600.0
BOOTSTRAP_SAMPLES = 2000
# The percentile over rounds that stands for an undisturbed machine: half of the rounds may be
# spoilt.
UNDISTURBED_PERCENTILE = 25

# Seconds in total that rounds wait for the machine to be at its usual speed (pace.py) before they
# run anyway, if the budget is large.
PATIENCE_SECONDS = 20.0
# A ratio is reported as `unstable` if more than this share of its rounds ran on a slower machine.
# The lower quartile takes its value from the fast rounds.
UNUSUAL_SHARE = 0.5

# Bytes of inputs that are made before a burst, or a part of it: they have to be new, and the
# engines' threads must not fall asleep meanwhile.
INPUT_BYTES = 4 << 20
# Answers that are compared after the timing: a random sample of those in bursts, and some given in
# haste after the last burst. At least as many, and no longer than this, with slow models. An engine
# that is wrong in half of its calls is right in all of them once in 65,000 times.
WATCHED_ANSWERS = 16
ANSWERS_AFTER = 3
FEWEST_ANSWERS = 4
AGAIN_SECONDS = 0.6
# Seconds of rest before a session answers again: what it did in haste, it does not do then.
AGAIN_PAUSE = 0.05
# Values of an output that are compared, spread evenly: an answer may have many megabytes.
WATCHED_VALUES = 1 << 14
# The share of watched answers that may differ from eager's: by a tie or a cancellation, which
# another input would not have. A session that is wrong in haste gains by most of its calls.
STRAY_ANSWERS = 0.25

# `burnish bench` starts each session this many times: the placement of a process in memory lasts
# for its life and changes latency by a percent or two (benchmarks/repeatability.py holds the whole
# to 5 %).
BENCH_LAUNCHES = 3

# Throughput is measured at batch sizes 1, 2, 4, ... while it gains more than this, for this long at
# each size.
SWEEP_GAIN = 0.05
SWEEP_SECONDS = 0.3

# The share of requests at the rate of a deadline that may be late. 300 of them have a 99th percentile;
# if they leave the gate undecided, more follow: without a late one 381 prove it (Wilson's interval).
LATE_SHARE = 0.01
DEADLINE_REQUESTS = 300
DEADLINE_SECONDS, UNDECIDED_DEADLINE_SECONDS = 12.0, 24.0

# No answer to one request for this long means a hang.
REQUEST_SECONDS = 600.0
