package history

import "strings"

// leastOverlap is the least width of an overlap: however short it is, it can be seen.
const leastOverlap = 3

// drawOverlaps marks the lanes of each overlap, joins them, and points at it from above.
func (p *picture) drawOverlaps(s *svg) {
	marks := make([][]span, len(p.lanes))
	reach := make([]reach, int(p.width/p.grain)+1)
	for _, o := range p.overlaps {
		if !p.shows(o.From, o.To) {
			continue
		}
		at := p.wide(p.span(o.From, o.To), leastOverlap)
		a, b := p.laneOf[o.A], p.laneOf[o.B]
		marks[a], marks[b] = joined(marks[a], at, p.grain), joined(marks[b], at, p.grain)
		reach[int((at.from-p.left)/p.grain)].add(a, b)
	}
	var links, points strings.Builder
	for c, r := range reach {
		if r.any {
			x := min(p.left+float64(c)*p.grain+leastOverlap/2, p.right())
			top := p.barTop(p.lanes[r.top])
			links.WriteString(stroke(x, top, 0, p.barBottom(p.lanes[r.bottom])-top))
			points.WriteString("M" + px(x) + " " + px(p.top-2) + "l-4 -7h8z")
		}
	}
	s.path("link", links.String(), "")
	for i, l := range p.lanes {
		p.bandOf(s, "both", marks[i], p.barTop(l), p.barHeight())
	}
	s.path("both", points.String(), "")
}

// reach is from which lane to which the overlaps of a column reach.
type reach struct {
	any         bool
	top, bottom int
}

func (r *reach) add(a, b int) {
	if !r.any {
		*r = reach{true, a, a}
	}
	r.top, r.bottom = min(r.top, a, b), max(r.bottom, a, b)
}
