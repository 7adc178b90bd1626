package ctxlock

import (
	"testing"
	"time"
)

// observed is a clock that has been right for a while, and then jumps by a step.
func observed(step time.Duration, given ...time.Duration) (*serverClock, clockStep) {
	c := &serverClock{drift: defaultDrift, usual: time.Second}
	now := time.Minute
	c.observe(now, now, now)
	for _, validity := range given {
		c.deadline(now, validity)
	}
	now += 2 * time.Minute
	c.deadline(now, 10*time.Second)
	return c, c.observe(now+step, now, now)
}

// After a jump ahead a claim is not believed for the time that a holder of its name may have held it: its own validity, or the usual one.
func TestAJumpStopsClaimsForTheirOwnValidity(t *testing.T) {
	c, step := observed(5*time.Second, time.Hour)
	if step != jumpedAhead {
		t.Fatalf("step %v", step)
	}
	at := c.jumped
	for _, test := range []struct {
		after, validity time.Duration
		believed        bool
	}{
		{0, time.Second, false},
		{time.Second - 1, 100 * time.Millisecond, false}, // others may hold it on the usual terms
		{time.Second, time.Second, true},
		{time.Second, time.Hour, false},
		{time.Hour - 1, time.Hour, false},
		{time.Hour, time.Hour, true},
	} {
		if err := c.distrusted(at+test.after, test.validity); (err == nil) != test.believed {
			t.Errorf("%v after, for %v: %v", test.after, test.validity, err)
		}
	}
}

// Steps are noticed from half the margin of the shortest validity on that a key may still have.
func TestStepsAreNoticedByTheShortestValidityThatCounts(t *testing.T) {
	for _, test := range []struct {
		given []time.Duration
		step  time.Duration
		want  clockStep
	}{
		{nil, 100 * time.Millisecond, steady}, // half the margin of 10s is 252 ms, and 60 ms of drift
		{nil, 400 * time.Millisecond, jumpedAhead},
		{nil, -400 * time.Millisecond, jumpedBack},
		{[]time.Duration{25 * time.Millisecond}, 100 * time.Millisecond, steady}, // that was two minutes ago
		{[]time.Duration{5 * time.Minute}, 400 * time.Millisecond, jumpedAhead},
	} {
		if _, step := observed(test.step, test.given...); step != test.want {
			t.Errorf("%v given, a step of %v: %v, not %v", test.given, test.step, step, test.want)
		}
	}
}
