package history

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// style has colours that people with any colour vision tell apart (after Okabe and Ito), on a ground of their own, so that the page may be
// light or dark.
const style = `
text{font:12px sans-serif;fill:#24292f}
.card{fill:#fff;stroke:#d0d7de}
.title{font-size:16px;font-weight:600}
.quiet{fill:#57606a}.bad{fill:#d1121f;font-weight:600}.good{fill:#1a7f37}
.name{font-weight:600}.end{text-anchor:end}.middle{text-anchor:middle}
.small{font-size:10px;fill:#57606a}.fault{font-size:11px;fill:#8a5a00}
.ground{fill:#f3f5f7}.rule{stroke:#d0d7de}
.struck{fill:#e69f00;fill-opacity:.2}.edge{stroke:#b97f00;stroke-dasharray:3 2;fill:none}
.wait{fill:#aab2ba}.held{fill:#0072b2}.maybe{fill:#9bd0f0}
.wrote{fill:none;stroke:#24292f}.refused{fill:none;stroke:#7a2a86;stroke-width:1.6}
.both{fill:#d1121f}.link{stroke:#d1121f;fill:none}
.gone{fill:#d1121f;stroke:#fff;stroke-width:.8}.late{fill:#fff;stroke:#d1121f;stroke-width:1.6}
`

// lengths within a lane
func (p *picture) barTop(l lane) float64 { return l.top + p.height*0.15 }
func (p *picture) barHeight() float64 {
	if p.writes {
		return p.height * 0.5
	}
	return p.height * 0.7
}
func (p *picture) barBottom(l lane) float64 { return p.barTop(l) + p.barHeight() }

// seconds are those since the run began.
func (p *picture) seconds(t int64) float64 { return (float64(t) - float64(p.Began)) / 1e9 }

func (p *picture) drawHead(s *svg) {
	s.text("title", 20, 30, p.title())
	var parts []string
	for _, f := range p.figures() {
		class, sign := "good", "✓"
		if f.bad {
			class, sign = "bad", "✗"
		}
		parts = append(parts, fmt.Sprintf(`<tspan class="%s">%s %s</tspan>`, class, sign, escaped(f.text)))
	}
	s.add(`<text x="20" y="50">%s</text>`, strings.Join(parts, "&#160;&#160; "))
	facts := fmt.Sprintf("%s, %s a second", count(p.Holdings(), "holding", "holdings"), perSecond(p.Rate()))
	if p.windowed {
		from, to := time.Duration(p.from-p.Began), time.Duration(p.to-p.Began)
		facts += fmt.Sprintf(" · the figures are of the whole run, the picture is of %s to %s", rounded(from), rounded(to))
	}
	s.text("quiet", 20, 68, facts)
}

// drawGround draws the clients' names and the axis.
func (p *picture) drawGround(s *svg) {
	for _, group := range clients(p.lanes) {
		first, last := p.lanes[group[0]], p.lanes[group[1]-1]
		bottom := last.top + p.height
		s.rect("ground", p.left, first.top, p.width, bottom-first.top, "")
		name := fmt.Sprintf("client %d", first.client)
		if group[1] == mostLanes {
			name += " …"
		}
		s.text("name", 20, (first.top+bottom)/2+4, name)
		if group[1]-group[0] > 1 {
			for _, l := range p.lanes[group[0]:group[1]] {
				s.text("small end", p.left-6, p.barTop(l)+p.barHeight()/2+3.5, l.label)
			}
		}
	}
	marks, decimals := ticks(p.seconds(p.from), p.seconds(p.to))
	for i, at := range marks {
		x := p.x(p.Began + int64(at*1e9))
		s.line("rule", x, p.top-4, x, p.bottom+4)
		text := strconv.FormatFloat(at+0, 'f', decimals, 64)
		if i == 0 {
			text += " s"
		}
		s.text("small middle", x, p.bottom+17, text)
	}
}

func (p *picture) drawFaults(s *svg) {
	for _, b := range p.bands() {
		s.rect("struck", b.from, b.top, b.to-b.from, b.bottom-b.top, b.title)
		s.line("edge", b.from, b.labelled, b.from, b.bottom)
		p.shown["struck"] = true
	}
	for _, l := range p.labels {
		class := "fault"
		if l.ends {
			class += " end"
		}
		s.text(class, l.x, l.y, l.text)
	}
}

func (p *picture) drawLane(s *svg, i int) {
	l := p.lanes[i]
	p.drawWaits(s, l)
	p.drawBriefs(s, l)
	p.drawBars(s, l)
	p.drawWrites(s, l)
}

// drawWaits draws a line for each wait. One that came to nothing goes on until its worker asked again.
func (p *picture) drawWaits(s *svg, l lane) {
	var waits []span
	next := make(map[int]int64) // by worker, as workers of a client may share the lane
	for j := len(l.rounds) - 1; j >= 0; j-- {
		r := p.Rounds[l.rounds[j]]
		until, ok := next[r.Worker]
		switch {
		case r.Held():
			until = r.Got
		case !ok:
			until = p.to
		}
		next[r.Worker] = r.Asked
		if r.Asked < until && p.shows(r.Asked, until) {
			waits = append(waits, p.span(r.Asked, until))
		}
	}
	p.bandOf(s, "wait", merged(waits, p.grain), p.barBottom(l)-1.4, 1.4)
}

// bandOf draws spans as bars of one height.
func (p *picture) bandOf(s *svg, class string, spans []span, y, height float64) {
	var d strings.Builder
	for _, w := range spans {
		w = p.wide(w, 0.5)
		d.WriteString(bar(w.from, y, w.to-w.from, height))
		p.shown[class] = true
	}
	s.path(class, d.String(), "")
}

// drawBars draws the holdings that are drawn each by itself.
func (p *picture) drawBars(s *svg, l lane) {
	for _, i := range l.rounds {
		if !p.bars[i] {
			continue
		}
		r := p.Rounds[i]
		s.add("<g><title>%s</title>", escaped(p.tell(r)))
		if r.end() > r.Alive {
			p.drawBar(s, l, "maybe", p.span(r.Got, r.end()))
		}
		if r.Alive >= r.Got {
			p.drawBar(s, l, "held", p.span(r.Got, r.Alive))
		}
		s.add("</g>")
	}
}

func (p *picture) drawBar(s *svg, l lane, class string, at span) {
	at = p.wide(at, 1)
	s.rect(class, at.from, p.barTop(l), at.to-at.from, p.barHeight(), "")
	p.shown[class] = true
}

// tell is what there is to know of a holding.
func (p *picture) tell(r Round) string {
	text := fmt.Sprintf("client %d, worker %d: had it at %.6f s", r.Client, r.Worker, p.seconds(r.Got))
	if r.Alive >= r.Got {
		text += ", alive for " + rounded(time.Duration(r.Alive-r.Got))
	}
	switch {
	case r.Lost:
		text += ", lost"
	case r.Free == 0:
		text += ", never given back"
	}
	if r.Token != 0 {
		text += fmt.Sprintf(", token %d", r.Token)
	}
	if r.Error != "" {
		text += ": " + short(r.Error, 60)
	}
	return text
}
