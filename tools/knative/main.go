// Plays Knative's own autoscaler over a series, one JSON line in and out for each tick.
//
// In: {"at": seconds, "ready": pods, "values": [...]}, the total of each second since the tick
// before. Out: {"stable": mean, "panic": mean, "desired": pods}. Settings are the defaults of its
// ConfigMap, with a target of one per pod. What is counted in windows, and what is decided from
// them, is the owner's code; this program only reads and prints.
package main

import (
	"bufio"
	"encoding/json"
	"log"
	"os"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric/noop"
	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/types"

	"knative.dev/serving/pkg/apis/autoscaling"
	"knative.dev/serving/pkg/autoscaler/aggregation"
	"knative.dev/serving/pkg/autoscaler/scaling"
)

const (
	stableWindow = 60 * time.Second
	panicWindow  = 6 * time.Second
)

type tick struct {
	At     float64   `json:"at"`
	Ready  int       `json:"ready"`
	Values []float64 `json:"values"`
}

type verdict struct {
	Stable  float64 `json:"stable"`
	Panic   float64 `json:"panic"`
	Desired int32   `json:"desired"`
}

// world is what the autoscaler asks: its pods, and the means of its two windows.
type world struct {
	ready         int
	stable, panic *aggregation.TimedFloat64Buckets
}

func (w *world) ReadyCount() (int, error)    { return w.ready, nil }
func (w *world) NotReadyCount() (int, error) { return 0, nil }

func (w *world) StableAndPanicConcurrency(_ types.NamespacedName, now time.Time) (float64, float64, error) {
	return w.stable.WindowAverage(now), w.panic.WindowAverage(now), nil
}

func (w *world) StableAndPanicRPS(key types.NamespacedName, now time.Time) (float64, float64, error) {
	return w.StableAndPanicConcurrency(key, now)
}

// newScaler starts as the owner does: in panic when it finds more than one pod.
func newScaler(seen *world) scaling.UniScaler {
	return scaling.New(*attribute.EmptySet(), noop.NewMeterProvider(), "default", "played", seen, seen,
		&scaling.DeciderSpec{
			MaxScaleUpRate:   1000,
			MaxScaleDownRate: 2,
			ScalingMetric:    autoscaling.Concurrency,
			TargetValue:      1,
			TotalValue:       1 / 0.7,
			PanicThreshold:   2,
			StableWindow:     stableWindow,
			Reachable:        true,
		})
}

func main() {
	seen := &world{
		stable: aggregation.NewTimedFloat64Buckets(stableWindow, time.Second),
		panic:  aggregation.NewTimedFloat64Buckets(panicWindow, time.Second),
	}
	var scaler scaling.UniScaler
	// It reads the clock once, when it starts: the series begins now.
	start := time.Now().Truncate(time.Second)
	quiet := zap.NewNop().Sugar()
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var read tick
		if err := json.Unmarshal(lines.Bytes(), &read); err != nil {
			log.Fatalf("knative: not a tick: %s: %v", lines.Text(), err)
		}
		now := start.Add(time.Duration(read.At * float64(time.Second)))
		for i, value := range read.Values {
			second := now.Add(-time.Duration(len(read.Values)-1-i) * time.Second)
			seen.stable.Record(second, value)
			seen.panic.Record(second, value)
		}
		seen.ready = read.Ready
		if scaler == nil {
			scaler = newScaler(seen)
		}
		said := scaler.Scale(quiet, now)
		stable, panic, _ := seen.StableAndPanicConcurrency(types.NamespacedName{}, now)
		if err := out.Encode(verdict{stable, panic, said.DesiredPodCount}); err != nil {
			log.Fatal(err)
		}
	}
	if err := lines.Err(); err != nil {
		log.Fatal(err)
	}
}
