package ctxlock

import (
	"strings"
	"testing"
	"time"
)

// Owner values stay readable for all that takes them apart, those of earlier versions included.
func TestOwnerValues(t *testing.T) {
	for _, majority := range []int{1, 2, 99} {
		for _, queued := range []bool{false, true} {
			year := 365 * 24 * time.Hour
			owner := string(appendOwner(nil, newID(majority), queued, false, year.Microseconds(), ""))
			if len(owner) > 44 || strings.Count(owner, "/") != 2 {
				t.Errorf("%q: %d bytes", owner, len(owner))
			}
			if majorityOf(owner) != majority || passesOn(owner) != queued || ofPeer(owner) {
				t.Errorf("%q: majority %d, passes on %t", owner, majorityOf(owner), passesOn(owner))
			}
			if since := time.Until(sinceOf(owner)); since < year-time.Minute || since > year+time.Minute {
				t.Errorf("%q: %v from now", owner, since)
			}
		}
	}
	for owner, majority := range map[string]int{
		"ctxlock/abcdefghijklmnop.mi2x3k4l/5a6b7c": 0, "ctxlock/abc~2.mi2x3k4l/+5a6b7c/a~3.b": 2, "ctxlock/abc.mi2x3k4l/+5a6b7c/a~3.b": 0,
		"ctxlock/a~0.b/c": 0, "ctxlock/a~-1.b/c": 0, "ctxlock/a~99999999999999999999.b/c": 0, "ctxlock/a~x.b/c": 0, "ctxlock/": 0, "a~2.b/c": 0, "": 0,
	} {
		if got := majorityOf(owner); got != majority {
			t.Errorf("%q: majority %d, want %d", owner, got, majority)
		}
	}
}
