package history

// entry explains one kind of mark.
type entry struct{ class, text string }

var entries = []entry{
	{"held", "held, for certain"},
	{"column", "many short holdings: higher is longer"},
	{"maybe", "perhaps held still"},
	{"wait", "waiting"},
	{"wrote", "write"},
	{"refused", "refused by the fence"},
	{"both", "two at once"},
	{"gone", "lost update"},
	{"late", "lost, but written too late for any lock"},
	{"struck", "fault"},
}

// drawLegend explains what the picture shows, and returns where the picture ends.
func (p *picture) drawLegend(s *svg, y float64) float64 {
	const letter, sample, gap = 5.8, 24, 18
	x := 20.0
	for _, e := range entries {
		if !p.shown[e.class] {
			continue
		}
		width := sample + letter*float64(len(e.text))
		if x+width > pictureWidth-20 {
			x, y = 20, y+20
		}
		p.drawSample(s, e.class, x, y-4)
		s.text("quiet", x+sample, y, e.text)
		x += width + gap
	}
	return y + 18
}

// drawSample draws a mark as it is in the picture, around a place.
func (p *picture) drawSample(s *svg, class string, x, y float64) {
	const width, height = 18, 10
	switch class {
	case "column":
		d := ""
		for i, part := range []float64{0.3, 0.7, 0.4, 1, 0.6, 0.2} {
			d += bar(x+3*float64(i), y+height/2-part*height, 3, part*height)
		}
		s.path("held", d, "")
	case "wait":
		s.rect(class, x, y-0.8, width, 1.6, "")
	case "wrote", "refused", "late", "gone":
		s.path(class, p.mark(class, x+width/2, y), "")
	default:
		s.rect(class, x, y-height/2, width, height, "")
	}
}
