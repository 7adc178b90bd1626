package ctxlock

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// RetryPolicy says when a call that waits for a lock makes another attempt, and when it gives up: see AcquireOption.Retry. NoRetry,
// RetryFixed, RetryLinear and RetryExponential say how long to pause, LimitRetries and LimitRetryTime when to give up, and
// SleepThrough that nothing but time ends a pause. They go by what they are given and keep nothing, so one value may serve any number
// of calls at once. RetryFunc makes a policy of a function.
type RetryPolicy interface {
	// Retry says what to do after an attempt that failed. It must not block. It is called on the
	// caller's goroutine, so a panic is the caller's to recover, and leaves nothing taken.
	Retry(Attempt) Retry
}

// Attempt is what a RetryPolicy goes by.
type Attempt struct {
	// Number counts the attempts that the policy has been asked about, this one included.
	Number int
	// Elapsed is how long the call has taken so far.
	Elapsed time.Duration
	// Err is what the attempt failed with, as the call would return it.
	Err error
	// Random is drawn anew for each attempt, evenly from [0, 1), for policies that spread their pauses.
	Random float64
}

// Retry is what a RetryPolicy answers. The zero value is to give up: the call returns the error of its last attempt.
type Retry struct {
	// Again asks for another attempt.
	Again bool
	// After is how long to pause before it. Less than a millisecond counts as one. Word that the lock may be free ends
	// the pause sooner; if that leads nowhere, what is left of the pause is waited for, and the policy is not asked.
	After time.Duration
	// SleepThrough makes that word not end the pause.
	SleepThrough bool
}

// RetryFunc is a RetryPolicy made of a function.
type RetryFunc func(Attempt) Retry

// Retry calls f.
func (f RetryFunc) Retry(a Attempt) Retry { return f(a) }

// policy is a RetryPolicy of this package: one that can tell whether it makes sense.
type policy struct {
	err   error
	retry func(Attempt) Retry
}

func (p policy) Retry(a Attempt) Retry { return p.retry(a) }

// checkPolicy gives the error of a policy that was made of bad values.
func checkPolicy(p RetryPolicy) error {
	switch p := p.(type) {
	case policy:
		return p.err
	case RetryFunc:
		if p == nil {
			return errors.New("ctxlock: nil RetryFunc")
		}
	}
	return nil
}

// pausing is a policy that tries again for ever, after pauses that after works out. Acquire refuses one with a bad value.
func pausing(values []namedPause, after func(Attempt) time.Duration) RetryPolicy {
	p := policy{retry: func(a Attempt) Retry { return Retry{Again: true, After: after(a)} }}
	for _, v := range values {
		if p.err == nil {
			p.err = checkSpan(v.name, v.pause, leastPause, math.MaxInt64)
		}
	}
	return p
}

// namedPause is an argument of a policy, with what errors call it.
type namedPause struct {
	name  string
	pause time.Duration
}

// NoRetry makes one attempt and gives up.
func NoRetry() RetryPolicy {
	return policy{retry: func(Attempt) Retry { return Retry{} }}
}

// RetryFixed pauses for the same time after each attempt. It must be 1ms or more, as all pauses of
// these policies: with less a server would be asked without end.
func RetryFixed(pause time.Duration) RetryPolicy {
	return pausing([]namedPause{{"RetryFixed: pause", pause}}, func(Attempt) time.Duration { return pause })
}

// RetryLinear pauses for step after the first attempt, for twice that after the second, and so on, but never longer than most.
// Both must be 1ms or more.
func RetryLinear(step, most time.Duration) RetryPolicy {
	return pausing([]namedPause{{"RetryLinear: step", step}, {"RetryLinear: most", most}}, func(a Attempt) time.Duration {
		return clampPause(float64(step)*float64(a.Number), most)
	})
}

// RetryExponential pauses for a time drawn from the upper half of a span, so that those who failed together come apart. The span is
// first after the first attempt, doubles with each, and is never longer than most. Both must be 1ms or more.
func RetryExponential(first, most time.Duration) RetryPolicy {
	return pausing([]namedPause{{"RetryExponential: first", first}, {"RetryExponential: most", most}}, func(a Attempt) time.Duration {
		span := clampPause(math.Ldexp(float64(first), min(a.Number-1, 64)), most)
		return span/2 + time.Duration(a.Random*float64(span-span/2))
	})
}

// clampPause is a pause of so many nanoseconds, which may be more than a Duration holds, but at most that long.
func clampPause(nanoseconds float64, most time.Duration) time.Duration {
	if nanoseconds >= float64(most) {
		return most
	}
	return time.Duration(nanoseconds)
}

// LimitRetries gives up after so many attempts beyond the first, and goes by p until then. Zero is NoRetry; a negative number is
// an error of Acquire, as is a nil p.
func LimitRetries(retries int, p RetryPolicy) RetryPolicy {
	limited := limit("LimitRetries", p, func(a Attempt, _ Retry) bool { return a.Number > retries })
	if retries < 0 {
		limited.err = fmt.Errorf("ctxlock: LimitRetries: %d is negative", retries)
	}
	return limited
}

// LimitRetryTime gives up when the next attempt would come later than this after the call began,
// and goes by p until then. Zero is NoRetry; a negative time, and one below 1ms, is an error of
// Acquire, as is a nil p. A deadline of the context does more: it cuts short a pause or an attempt
// under way.
func LimitRetryTime(most time.Duration, p RetryPolicy) RetryPolicy {
	limited := limit("LimitRetryTime", p, func(a Attempt, r Retry) bool { return max(r.After, 0) > most-a.Elapsed })
	if most != 0 && p != nil {
		if err := checkSpan("LimitRetryTime: most", most, leastPause, math.MaxInt64); err != nil {
			limited.err = err
		}
	}
	return limited
}

// SleepThrough pauses as p says, and has no word that the lock may be free end a pause sooner. A nil p is an error of Acquire.
func SleepThrough(p RetryPolicy) RetryPolicy {
	deaf := limit("SleepThrough", p, func(Attempt, Retry) bool { return false })
	heed := deaf.retry
	deaf.retry = func(a Attempt) Retry {
		r := heed(a)
		r.SleepThrough = true
		return r
	}
	return deaf
}

// limit is p, but for giving up when over says so.
func limit(name string, p RetryPolicy, over func(Attempt, Retry) bool) policy {
	if p == nil {
		return policy{err: fmt.Errorf("ctxlock: %s: nil policy", name), retry: NoRetry().Retry}
	}
	return policy{err: checkPolicy(p), retry: func(a Attempt) Retry {
		r := p.Retry(a)
		if !r.Again || over(a, r) {
			return Retry{}
		}
		return r
	}}
}
