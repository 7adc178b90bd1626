package ctxlock_test

import (
	"math"
	"testing"
	"time"

	"github.com/ctxlock/ctxlock"
)

const ms = time.Millisecond

// again is the answer to go on after a pause.
func again(after time.Duration) ctxlock.Retry { return ctxlock.Retry{Again: true, After: after} }

func TestRetryPoliciesAnswerByTheirNumbers(t *testing.T) {
	type attempt = ctxlock.Attempt
	const ever = time.Duration(math.MaxInt64)
	fixed, giveUp := ctxlock.RetryFixed(100*ms), ctxlock.Retry{}
	linear, exponential := ctxlock.RetryLinear(time.Second, 5*time.Second), ctxlock.RetryExponential(100*ms, time.Second)
	deaf := ctxlock.Retry{Again: true, After: 100 * ms, SleepThrough: true}
	for i, c := range []struct {
		policy ctxlock.RetryPolicy
		asked  attempt
		want   ctxlock.Retry
	}{
		{ctxlock.NoRetry(), attempt{Number: 1}, giveUp},
		{fixed, attempt{Number: 1}, again(100 * ms)},
		{fixed, attempt{Number: math.MaxInt, Elapsed: ever}, again(100 * ms)},
		{linear, attempt{Number: 1}, again(time.Second)},
		{linear, attempt{Number: 3}, again(3 * time.Second)},
		{linear, attempt{Number: 6}, again(5 * time.Second)},
		{linear, attempt{Number: math.MaxInt}, again(5 * time.Second)},
		{ctxlock.RetryLinear(time.Second, ms), attempt{Number: 1}, again(ms)},
		{ctxlock.RetryLinear(ever, ever), attempt{Number: math.MaxInt}, again(ever)},
		{exponential, attempt{Number: 1}, again(50 * ms)},
		{exponential, attempt{Number: 1, Random: 0.5}, again(75 * ms)},
		{exponential, attempt{Number: 3, Random: 0.5}, again(300 * ms)},
		{exponential, attempt{Number: 5}, again(500 * ms)},
		{exponential, attempt{Number: math.MaxInt, Random: 0.5}, again(750 * ms)},
		{ctxlock.RetryExponential(time.Second, 100*ms), attempt{Number: 1}, again(50 * ms)},
		{ctxlock.LimitRetries(0, fixed), attempt{Number: 1}, giveUp},
		{ctxlock.LimitRetries(2, fixed), attempt{Number: 2}, again(100 * ms)},
		{ctxlock.LimitRetries(2, fixed), attempt{Number: 3}, giveUp},
		{ctxlock.LimitRetries(math.MaxInt, fixed), attempt{Number: math.MaxInt}, again(100 * ms)},
		{ctxlock.LimitRetryTime(0, fixed), attempt{Number: 1}, giveUp},
		{ctxlock.LimitRetryTime(time.Second, fixed), attempt{Elapsed: 900 * ms}, again(100 * ms)},
		{ctxlock.LimitRetryTime(time.Second, fixed), attempt{Elapsed: 900*ms + 1}, giveUp},
		{ctxlock.LimitRetryTime(time.Second, fixed), attempt{Elapsed: ever}, giveUp},
		{ctxlock.LimitRetryTime(ever, fixed), attempt{Elapsed: time.Hour}, again(100 * ms)},
		{ctxlock.LimitRetryTime(time.Second, ctxlock.RetryFixed(ever)), attempt{Elapsed: 1}, giveUp},
		{ctxlock.LimitRetryTime(time.Second, after(math.MinInt64)), attempt{Elapsed: 2 * time.Second}, giveUp},
		{ctxlock.SleepThrough(fixed), attempt{Number: 1}, deaf},
		{ctxlock.SleepThrough(ctxlock.SleepThrough(fixed)), attempt{Number: 1}, deaf},
		{ctxlock.LimitRetries(2, ctxlock.SleepThrough(fixed)), attempt{Number: 2}, deaf},
		{ctxlock.SleepThrough(ctxlock.LimitRetries(2, fixed)), attempt{Number: 2}, deaf},
		{ctxlock.LimitRetries(9, ctxlock.LimitRetries(2, fixed)), attempt{Number: 3}, giveUp},
		{ctxlock.LimitRetries(2, ctxlock.LimitRetryTime(time.Second, fixed)), attempt{Number: 3}, giveUp},
		{ctxlock.LimitRetryTime(time.Second, ctxlock.LimitRetries(9, fixed)), attempt{Number: 1, Elapsed: time.Second}, giveUp},
		{ctxlock.LimitRetries(9, ctxlock.NoRetry()), attempt{Number: 1}, giveUp},
		{ctxlock.RetryFunc(func(a attempt) ctxlock.Retry { return again(a.Elapsed) }), attempt{Elapsed: 7}, again(7)},
	} {
		if got := c.policy.Retry(c.asked); got != c.want {
			t.Errorf("case %d: asked about %+v: %+v, not %+v", i, c.asked, got, c.want)
		}
	}
	for what, p := range badPolicies() { // whoever calls them all the same
		if what != "nil RetryFunc" {
			_ = p.Retry(attempt{Number: 3})
		}
	}
	if ctxlock.SleepThrough(ctxlock.NoRetry()).Retry(attempt{Number: 1}).Again {
		t.Error("SleepThrough goes on where its policy gives up")
	}
}

func TestRetryExponentialDrawsFromTheUpperHalfOfASpan(t *testing.T) {
	for _, most := range []time.Duration{1, 2, time.Second, math.MaxInt64} {
		p := ctxlock.RetryExponential(3*ms, most)
		for _, n := range []int{1, 2, 10, 40, 64, 65, 66, 1000, math.MaxInt} {
			span := most
			if n <= 40 && 3*ms<<(n-1) < most {
				span = 3 * ms << (n - 1)
			}
			before := time.Duration(0)
			for _, random := range []float64{0, 0.1, 0.5, 0.9, math.Nextafter(1, 0)} {
				r := p.Retry(ctxlock.Attempt{Number: n, Random: random})
				if !r.Again || r.After < span/2 || r.After > span || r.After < before {
					t.Errorf("at most %v, attempt %d, random %v: %+v; before %v", most, n, random, r, before)
				}
				before = r.After
			}
		}
	}
}

// after always pauses for that long, whether it makes sense or not.
func after(pause time.Duration) ctxlock.RetryPolicy {
	return ctxlock.RetryFunc(func(ctxlock.Attempt) ctxlock.Retry { return again(pause) })
}

// badPolicies are made of values that make no sense, and what the error of each names.
func badPolicies() map[string]ctxlock.RetryPolicy {
	good := ctxlock.RetryFixed(time.Second)
	return map[string]ctxlock.RetryPolicy{
		"RetryFixed: pause is 0s":                                         ctxlock.RetryFixed(0),
		"RetryFixed: pause is -1ms":                                       ctxlock.SleepThrough(ctxlock.LimitRetries(1, ctxlock.RetryFixed(-ms))),
		"RetryFixed: pause is 500ns: did you mean 500*time.Millisecond?":  ctxlock.RetryFixed(500),
		"RetryLinear: step is -1s":                                        ctxlock.RetryLinear(-time.Second, time.Second),
		"RetryLinear: most is 0s":                                         ctxlock.LimitRetryTime(time.Second, ctxlock.RetryLinear(time.Second, 0)),
		"RetryLinear: step is 100ns: did you mean 100*time.Millisecond?":  ctxlock.RetryLinear(100, time.Second),
		"RetryExponential: first is 0s":                                   ctxlock.RetryExponential(0, time.Second),
		"RetryExponential: most is -1s":                                   ctxlock.RetryExponential(time.Second, -time.Second),
		"RetryExponential: most is 30ns: did you mean 30*time.Second?":    ctxlock.RetryExponential(time.Second, 30),
		"RetryExponential: first is 999.999µs: it has to be at least 1ms": ctxlock.RetryExponential(ms-1, time.Second),
		"LimitRetries: -1":                                                ctxlock.LimitRetryTime(time.Second, ctxlock.LimitRetries(-1, good)),
		"LimitRetryTime: most is 30ns: did you mean 30*time.Second?":      ctxlock.LimitRetryTime(30, good),
		"LimitRetryTime: most is -1ns":                                    ctxlock.LimitRetries(1, ctxlock.LimitRetryTime(-1, good)),
		"SleepThrough: nil policy":                                        ctxlock.SleepThrough(nil),
		"LimitRetryTime: nil policy":                                      ctxlock.LimitRetries(1, ctxlock.LimitRetryTime(1, nil)),
		"nil RetryFunc":                                                   ctxlock.RetryFunc(nil),
	}
}
