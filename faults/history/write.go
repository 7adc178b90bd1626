package history

import (
	"fmt"
	"strings"
)

// drawWrites marks the writes of a lane below its bars.
func (p *picture) drawWrites(s *svg, l lane) {
	at := make(map[string][]float64)
	var lasted []span
	for _, i := range l.rounds {
		w := p.Rounds[i].Write
		if w == nil || !p.shows(w.Checked, max(w.Checked, w.Acked)) {
			continue
		}
		way := p.span(w.Checked, max(w.Checked, w.Acked))
		if way.to-way.from > 3 {
			lasted = append(lasted, way)
		}
		class := "wrote"
		if w.Refused {
			class = "refused"
		}
		at[class] = append(at[class], way.to)
		if class, ok := p.lost[w.Element]; ok {
			at[class] = append(at[class], way.to)
		}
	}
	y := p.barBottom(l) + p.height*0.17
	p.bandOf(s, "wrote", merged(lasted, p.grain), y, 0.1)
	for _, class := range []string{"wrote", "late", "gone", "refused"} { // what was refused and is lost shows both
		if class != "wrote" || p.writes {
			p.drawMarks(s, class, at[class], y)
		}
	}
}

func (p *picture) drawMarks(s *svg, class string, xs []float64, y float64) {
	var d strings.Builder
	for _, x := range p.columns(xs, p.grain) {
		d.WriteString(p.mark(class, x, y))
		p.shown[class] = true
	}
	s.path(class, d.String(), "")
}

func (p *picture) mark(class string, x, y float64) string {
	size := p.height * 0.13
	switch class {
	case "wrote":
		return stroke(x, y-size, 0, 2*size)
	case "refused":
		return cross(x, y, size)
	}
	size *= 1.5
	return fmt.Sprintf("M%s %sl%s %sl%s %sl%s %sz", px(x), px(y-size), px(size), px(size), px(-size), px(size), px(-size), px(-size))
}
