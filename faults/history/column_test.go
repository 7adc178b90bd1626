package history

import (
	"fmt"
	"testing"
)

func TestWhoIsAloneAndWhoCrowds(t *testing.T) {
	var briefs []brief
	for _, s := range []span{{0, 1}, {3, 4}, {5, 6}, {6, 7}, {10, 20}, {12, 13}, {22, 23}} {
		briefs = append(briefs, brief{all: s})
	}
	alone, crowd := apart(briefs, 2)
	if got := fmt.Sprint(all(alone), all(crowd)); got != "[{0 1} {22 23}] [{3 4} {5 6} {6 7} {10 20} {12 13}]" {
		t.Error(got)
	}
}

func TestColumnsAreAsHighAsTheirShare(t *testing.T) {
	p := picture{scale: scale{left: 100, width: 4}, height: 20, writes: true, grain: 1, peak: 0.5}
	got := p.columnPath(lane{}, []span{{100, 100.5}, {101.5, 101.75}, {102.25, 102.5}})
	// The highest is 10, the others are each half as high, and drawn as one.
	if got != bar(100, 3, 1, 10)+bar(101, 8, 2, 5) {
		t.Error(got)
	}
}
