package history

import (
	"cmp"
	"math"
	"slices"
)

// scale turns times into pixels. Times outside of it are at its ends.
type scale struct {
	from, to    int64
	left, width float64
}

func (s scale) x(t int64) float64 {
	part := (float64(t) - float64(s.from)) / max(float64(s.to)-float64(s.from), 1)
	return s.left + s.width*min(max(part, 0), 1)
}

func (s scale) right() float64 { return s.left + s.width }

// shows tells whether any of a time is on the scale.
func (s scale) shows(from, to int64) bool { return from <= s.to && to >= s.from }

// span is a stretch in pixels.
type span struct{ from, to float64 }

func (s scale) span(from, to int64) span { return span{s.x(from), s.x(max(from, to))} }

// wide makes a span at least so wide that it can be seen.
func (s scale) wide(p span, least float64) span {
	if p.to-p.from < least {
		p.from = min(p.from, s.right()-least)
		p.to = p.from + least
	}
	return p
}

// merged joins spans that are nearer to each other than a grain, so that there are not more of them than one can see.
func merged(spans []span, grain float64) []span {
	slices.SortFunc(spans, func(a, b span) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	var all []span
	for _, next := range spans {
		all = joined(all, next, grain)
	}
	return all
}

// joined is merged for one more span, which begins no earlier than the others.
func joined(spans []span, next span, grain float64) []span {
	if n := len(spans); n > 0 && next.from < spans[n-1].to+grain {
		spans[n-1].to = max(spans[n-1].to, next.to)
		return spans
	}
	return append(spans, next)
}

// shares tells, of each column as wide as a grain, how much of it the spans cover.
func (s scale) shares(spans []span, grain float64) []float64 {
	shares := make([]float64, int(s.width/grain)+1)
	for _, p := range spans {
		from, to := (p.from-s.left)/grain, (p.to-s.left)/grain
		for c := int(from); c < len(shares) && (float64(c) < to || c == int(from)); c++ {
			shares[c] += max(min(to, float64(c+1))-max(from, float64(c)), 0.001) // a moment shows as well
		}
	}
	return shares
}

// columns puts places into columns, each once.
func (s scale) columns(xs []float64, grain float64) []float64 {
	var places []float64
	seen := make(map[int]bool)
	for _, x := range xs {
		if c := int((x - s.left) / grain); !seen[c] {
			seen[c] = true
			places = append(places, x)
		}
	}
	return places
}

// ticks are the marks of an axis in seconds, whole multiples of 1, 2 or 5 times a power of ten, and how many decimals they need.
func ticks(from, to float64) (marks []float64, decimals int) {
	const wanted = 10
	rough := max(to-from, 1e-9) / wanted
	power := math.Pow(10, math.Floor(math.Log10(rough)))
	step := 10 * power
	for _, factor := range []float64{1, 2, 5} {
		if factor*power >= rough {
			step = factor * power
			break
		}
	}
	first := math.Ceil(from/step - 1e-6)
	for i := range 2 * wanted {
		if at := (first + float64(i)) * step; at <= to+step*1e-6 {
			marks = append(marks, at)
		}
	}
	return marks, max(0, -int(math.Floor(math.Log10(step)+1e-9)))
}
