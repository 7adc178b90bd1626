package main

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3}, {[]float64{5, 1, 3}, 3}, {[]float64{4, 1, 3, 2}, 2.5}, {[]float64{1, math.Inf(1), 2}, 2},
	} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
	}
	if !math.IsNaN(median(nil)) {
		t.Error("the median of nothing is something")
	}
}

func TestQuantilesAreWithinOnePercent(t *testing.T) {
	var h, other histogram
	for i := 1; i <= 10_000; i++ {
		to := &h
		if i%2 == 0 {
			to = &other
		}
		to.add(time.Duration(i) * time.Microsecond)
	}
	h.merge(&other)
	for part, want := range map[float64]time.Duration{0.5: 5 * time.Millisecond, 0.99: 9900 * time.Microsecond, 1: 10 * time.Millisecond, 0: time.Microsecond} {
		if got := h.quantile(part); math.Abs(float64(got)/float64(want)-1) > 0.01 {
			t.Errorf("quantile %v is %v, want %v", part, got, want)
		}
	}
	var ends histogram
	ends.add(0)
	ends.add(24 * time.Hour)
	if ends.quantile(0.5) > time.Microsecond || ends.quantile(1) < time.Minute {
		t.Error(ends.quantile(0.5), ends.quantile(1))
	}
	if new(histogram).quantile(0.5) != 0 {
		t.Error("a quantile of nothing is something")
	}
}

func TestAWaitThatDoesNotEndCounts(t *testing.T) {
	w := &worker{guard: &guard{}}
	w.ended.Store(true)
	for range 50 {
		w.waits.add(time.Millisecond)
	}
	r := gather([]*worker{w}, []time.Duration{time.Microsecond, time.Second})
	if got := r.waits.quantile(1); got < 900*time.Millisecond {
		t.Error("the longest wait was", got)
	}
	if r.waits.count != 51 { // a short one says nothing: it would have become longer
		t.Error(r.waits.count, "waits")
	}
}

func TestPoolTakesMediansOfRatesAndSumsOfTheRest(t *testing.T) {
	did := func(ops []int, handoffs int) *round {
		return &round{ops: ops, handoffs: handoffs, usage: usage{time: time.Second, client: time.Millisecond, commands: 20, mallocs: 40}}
	}
	r := pool(scenario{name: "s"}, near, bare(), []*round{did([]int{5, 5}, 4), did([]int{30, 10}, 6), did([]int{20, 0}, 8)})
	if r.Rate != 20 || r.Lowest != 10 || r.Highest != 40 || r.Handoffs != 6 || r.Spread != 3 {
		t.Errorf("%+v", r)
	}
	if r.Ops != 70 || r.Commands != 60.0/70 || r.Allocs != 120.0/70 || r.ClientCPU != 3000.0/70 {
		t.Errorf("%+v", r)
	}
}

// sample has one result of everything that charts and targets ask for, some of it infinite or missing.
func sample() results {
	var rs results
	for _, sc := range scenarios() {
		for _, trip := range sc.trips {
			for i, who := range sc.field(trip) {
				r := Result{Scenario: sc.name, RoundTrip: trip, Contender: who.String(), Library: who.Library, Rate: 1000 / float64(i+1), Handoffs: 500 / float64(i+1),
					P50: time.Millisecond, P99: 2 * time.Millisecond, Spread: float64(i + 1), Memory: math.NaN(), Commands: math.NaN()}
				if i == 1 {
					r.Spread = math.Inf(1)
				}
				rs = append(rs, r)
			}
		}
	}
	return rs
}

var samplePings = map[time.Duration]time.Duration{lan: lan, far: far}

func TestTargetsAreJudged(t *testing.T) {
	for _, v := range judgeAll(nil, nil) {
		if v.word != notMeasured {
			t.Errorf("nothing was measured, and %s is %s", v.what, v.word)
		}
	}
	// All names that targets look up are there, but for what NaN above leaves out.
	for _, v := range judgeAll(sample(), samplePings) {
		if v.word == notMeasured && !strings.Contains(v.what, "commands") && !strings.Contains(v.what, "KB") && !strings.Contains(v.what, "CPU") {
			t.Errorf("%s was measured, and is %s", v.what, v.word)
		}
	}
	atMost := target{figure: func(results, map[time.Duration]time.Duration) float64 { return 2 }, bound: 2, atMost: true}
	atLeast := atMost
	atLeast.atMost, atLeast.bound = false, 2.1
	if atMost.judge(nil, nil).word != met || atLeast.judge(nil, nil).word != missed {
		t.Error(atMost.judge(nil, nil), atLeast.judge(nil, nil))
	}
}

func TestTableAndJSONTakeWhatIsMissing(t *testing.T) {
	var table bytes.Buffer
	writeTable(&table, conditions{Server: "server"}, scenarios(), sample(), judgeAll(sample(), samplePings))
	for _, want := range []string{"| ∞ |", "## 128 lockers on one name, round trip 10ms", "Left out:"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q", want)
		}
	}
	if strings.Contains(table.String(), "NaN") || strings.Contains(table.String(), "Inf") {
		t.Error("the table has NaN or Inf")
	}
	if _, err := json.Marshal(sample()); err != nil {
		t.Error(err)
	}
}

func TestNumbers(t *testing.T) {
	for want, got := range map[string]string{
		"1,234,567": number(1234567), "12.3": number(12.345), "0.12": number(0.123), "-": number(math.NaN()),
		"∞": ratio(math.Inf(1)), "1.50": ratio(1.5), "12 ms": short(12 * time.Millisecond), "850 ns": short(850), "1.50 s": short(1500 * time.Millisecond),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
