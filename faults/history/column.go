package history

import (
	"cmp"
	"slices"
	"strings"
)

// brief is a holding that is not drawn by itself.
type brief struct {
	all, sure span
	certain   bool
}

// room is how many grains there are around one that is alone.
const room = 2

// drawBriefs draws the holdings that are not drawn by themselves, none of which can be pointed at. Where they crowd, they become columns,
// the higher the more of a column's time they take: were they drawn as bars, lanes that take turns would look as if they overlapped.
func (p *picture) drawBriefs(s *svg, l lane) {
	alone, crowd := apart(p.briefs(l), room*p.grain)
	p.shown["held"] = p.shown["held"] || len(sure(alone)) > 0
	p.shown["maybe"] = p.shown["maybe"] || len(unsure(alone)) > 0 || len(unsure(crowd)) > 0
	p.shown["column"] = p.shown["column"] || len(crowd) > 0
	bars := func(class string, spans []span) {
		var d strings.Builder
		for _, w := range spans {
			w = p.wide(w, 1)
			d.WriteString(bar(w.from, p.barTop(l), w.to-w.from, p.barHeight()))
		}
		s.path(class, d.String(), "")
	}
	bars("maybe", unsure(alone))
	bars("held", sure(alone))
	title := count(len(crowd), "short holding", "short holdings") + ", the more of a column's time the higher it is"
	s.path("maybe", p.columnPath(l, all(crowd)), title)
	s.path("held", p.columnPath(l, sure(crowd)), title)
}

// briefs are those of a lane, in the order in which they began.
func (p *picture) briefs(l lane) []brief {
	var briefs []brief
	for _, i := range l.rounds {
		if r := p.Rounds[i]; r.Held() && !p.bars[i] && p.shows(r.Got, r.end()) {
			briefs = append(briefs, brief{p.span(r.Got, r.end()), p.span(r.Got, r.Alive), r.Alive >= r.Got})
		}
	}
	slices.SortStableFunc(briefs, func(a, b brief) int { return cmp.Compare(a.all.from, b.all.from) })
	return briefs
}

// apart parts those that have some room on both sides from those that crowd.
func apart(briefs []brief, room float64) (alone, crowd []brief) {
	until := -room // of those before
	for i, b := range briefs {
		if b.all.from >= until+room && (i+1 == len(briefs) || briefs[i+1].all.from >= b.all.to+room) {
			alone = append(alone, b)
		} else {
			crowd = append(crowd, b)
		}
		until = max(until, b.all.to)
	}
	return alone, crowd
}

func all(briefs []brief) (spans []span) {
	for _, b := range briefs {
		spans = append(spans, b.all)
	}
	return spans
}

// unsure are those that may have been alive beyond what is certain.
func unsure(briefs []brief) (spans []span) {
	for _, b := range briefs {
		if !b.certain || b.all.to > b.sure.to {
			spans = append(spans, b.all)
		}
	}
	return spans
}

func sure(briefs []brief) (spans []span) {
	for _, b := range briefs {
		if b.certain {
			spans = append(spans, b.sure)
		}
	}
	return spans
}

// findPeak finds the greatest share of a column, in all lanes. It is drawn as high as a bar: with many workers, all shares are small.
func (p *picture) findPeak() {
	p.peak = 0
	for _, l := range p.lanes {
		_, crowd := apart(p.briefs(l), room*p.grain)
		if len(crowd) > 0 {
			p.peak = min(max(p.peak, slices.Max(p.shares(all(crowd), p.grain))), 1)
		}
	}
}

// columnPath draws columns, which stand on the lane's line.
func (p *picture) columnPath(l lane, spans []span) string {
	const steps = 8 // so that neighbours are often of the same height, and drawn as one
	shares := p.shares(spans, p.grain)
	level := func(c int) int {
		if shares[c] == 0 {
			return 0
		}
		return 1 + int(min(shares[c]/p.peak, 1)*(steps-1))
	}
	var d strings.Builder
	for c, end := 0, 0; c < len(shares); c = end {
		for end = c + 1; end < len(shares) && level(end) == level(c); {
			end++
		}
		if n := level(c); n > 0 {
			height := p.barHeight() * float64(n) / steps
			columns := p.wide(span{p.left + float64(c)*p.grain, min(p.left+float64(end)*p.grain, p.right())}, 1)
			d.WriteString(bar(columns.from, p.barBottom(l)-height, columns.to-columns.from, height))
		}
	}
	return d.String()
}
