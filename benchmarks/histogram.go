package main

import (
	"math"
	"slices"
	"time"
)

// histogram counts durations in buckets of 1 %: what it says is off by half of that at most, and millions cost no memory.
type histogram struct {
	buckets [bucketCount]uint32
	count   uint64
}

const (
	bucketCount = 2400
	bucketWidth = 1.01
	bucketFirst = 50 * time.Nanosecond // and everything below; the last begins at a quarter of an hour
)

var logWidth = math.Log(bucketWidth)

func (h *histogram) add(d time.Duration) {
	i := 0
	if d > bucketFirst {
		i = min(int(math.Log(float64(d)/float64(bucketFirst))/logWidth), bucketCount-1)
	}
	h.buckets[i]++
	h.count++
}

func (h *histogram) merge(other *histogram) {
	for i, n := range other.buckets {
		h.buckets[i] += n
	}
	h.count += other.count
}

// quantile is the duration that a part of all does not exceed; 0 if there is none.
func (h *histogram) quantile(part float64) time.Duration {
	if h.count == 0 {
		return 0
	}
	rank := max(uint64(math.Ceil(part*float64(h.count))), 1)
	var seen uint64
	for i, n := range h.buckets {
		if seen += uint64(n); seen >= rank {
			return time.Duration(float64(bucketFirst) * math.Pow(bucketWidth, float64(i)+0.5))
		}
	}
	return 0
}

// median is that of the values, NaN for none. Of an even number it is the mean of the middle two.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	values = slices.Sorted(slices.Values(values))
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}
