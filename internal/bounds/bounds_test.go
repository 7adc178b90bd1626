package bounds_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/ctxlock/ctxlock/internal/bounds"
)

func TestCheckSaysWhatWasGivenAndWhatWasMeant(t *testing.T) {
	const ms, years = time.Millisecond, 10 * 365 * 24 * time.Hour
	for _, c := range []struct {
		d, min, max time.Duration
		says        string // empty if it is no error
	}{
		{25 * ms, 25 * ms, years, ""},
		{years, 25 * ms, years, ""},
		{30, 25 * ms, years, "X is 30ns: did you mean 30*time.Second? It has to be from 25ms to 10 years"},
		{500, ms, years, "X is 500ns: did you mean 500*time.Millisecond? It has to be from 1ms to 10 years"},
		{5000, 25 * ms, years, "X is 5µs: did you mean 5000*time.Millisecond? It has to be from 25ms to 10 years"},
		{1, 10 * ms, 5*time.Second - 1, "X is 1ns: did you mean 1*time.Second? It has to be from 10ms to below 5s"},
		{1, 10 * ms, 900 * ms, "X is 1ns: it has to be from 10ms to 900ms"},
		{50, 10 * ms, 900 * ms, "X is 50ns: did you mean 50*time.Millisecond? It has to be from 10ms to 900ms"},
		{200, time.Second, time.Hour, "X is 200ns: did you mean 200*time.Second? It has to be from 1s to 1h0m0s"},
		{100 * time.Microsecond, ms, years, "X is 100µs: it has to be from 1ms to 10 years"},
		{0, ms, years, "X is 0s: it has to be from 1ms to 10 years"},
		{-30, ms, years, "X is -30ns: it has to be from 1ms to 10 years"},
		{math.MaxInt64, ms, years, "X is 2562047h47m16.854775807s: it has to be from 1ms to 10 years"},
		{500, ms, math.MaxInt64, "X is 500ns: did you mean 500*time.Millisecond? It has to be at least 1ms"},
		{0, ms, math.MaxInt64, "X is 0s: it has to be at least 1ms"},
		{math.MaxInt64, ms, math.MaxInt64, ""},
		{math.MinInt64, ms, years, "it has to be from 1ms to 10 years"},
	} {
		err := bounds.Check("X", c.d, c.min, c.max)
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%v: %v", c.d, err)
		case c.says != "" && (err == nil || !strings.HasSuffix(err.Error(), c.says)):
			t.Errorf("%v: %v, not %q", c.d, err, c.says)
		}
	}
}
