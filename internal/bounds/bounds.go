// Package bounds says what is wrong with durations that callers give, and what they may have meant.
package bounds

import (
	"fmt"
	"math"
	"time"
)

// bare is below what is taken for a number without its unit. Nobody means so few nanoseconds.
const bare = 100 * time.Microsecond

// Check gives an error unless d is from min to max, which math.MaxInt64 leaves open. what is what
// callers call it.
func Check(what string, d, min, max time.Duration) error {
	if d >= min && d <= max {
		return nil
	}
	allowed := fmt.Sprintf("from %s to %s", text(min), limit(max))
	if max == math.MaxInt64 {
		allowed = fmt.Sprintf("at least %s", text(min))
	}
	if unit := missing(d, min, max); unit != "" {
		return fmt.Errorf("%s is %v: did you mean %d*%s? It has to be %s", what, d, d.Nanoseconds(), unit, allowed)
	}
	return fmt.Errorf("%s is %v: it has to be %s", what, d, allowed)
}

// missing is the unit that a bare number lacks; empty if it is none, or fits no unit. Few are
// seconds, many milliseconds.
func missing(d, min, max time.Duration) string {
	if d <= 0 || d >= bare {
		return ""
	}
	fits := func(unit time.Duration) bool { return d*unit >= min && d*unit <= max }
	switch {
	case d < 100 && fits(time.Second):
		return "time.Second"
	case fits(time.Millisecond):
		return "time.Millisecond"
	case fits(time.Second):
		return "time.Second"
	}
	return ""
}

// limit is the greatest that is allowed, for people: what comes just after it where that is rounder.
func limit(max time.Duration) string {
	if above := max + 1; max < math.MaxInt64 && above%time.Millisecond == 0 {
		return "below " + text(above)
	}
	return text(max)
}

// text is d for people: years where a count of hours says nothing.
func text(d time.Duration) string {
	const year = 365 * 24 * time.Hour
	if d >= year && d%year == 0 {
		return fmt.Sprintf("%d years", d/year)
	}
	return d.String()
}
