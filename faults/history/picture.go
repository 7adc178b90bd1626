package history

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// PictureOptions are what a picture shows. The zero value shows the whole run.
type PictureOptions struct {
	// From and To are times since the run began; To is its end if it is 0.
	From, To time.Duration
	// Margin is that of LostUpdates. It is History.Margin if it is 0.
	Margin time.Duration
}

// Picture draws who held the lock and when, as a picture in SVG of at most 300 kB.
func (h *History) Picture(w io.Writer) error { return h.PictureOf(w, PictureOptions{}) }

// PictureOf is Picture with options. There is an error if the history contradicts itself.
func (h *History) PictureOf(w io.Writer, o PictureOptions) error {
	p, err := h.picture(o)
	if err != nil {
		return err
	}
	_, err = w.Write(p.render())
	return err
}

// picture is what is drawn of a history, and where.
type picture struct {
	*History
	scale
	verdict
	lanes  []lane
	laneOf []int // by round
	bars   []bool
	writes bool    // whether all writes are marked, not only the remarkable ones
	labels []label // of the faults

	height      float64         // of a lane
	top, bottom float64         // of all lanes
	grain       float64         // what is nearer together is drawn as one
	peak        float64         // the greatest share of a column
	shown       map[string]bool // classes that the legend explains
	windowed    bool
}

const (
	pictureWidth = 1000
	lanesLeft    = 104
	lanesWidth   = 872
	mostBytes    = 290_000
	// mostBars are the holdings that have a title each. They take about 250 bytes.
	mostBars = 600
)

func (h *History) picture(o PictureOptions) (*picture, error) {
	verdict, err := h.judge(o.Margin)
	if err != nil {
		return nil, err
	}
	p := &picture{History: h, verdict: verdict, windowed: o.From != 0 || o.To != 0}
	p.scale = scale{from: h.Began + int64(o.From), to: h.end(), left: lanesLeft, width: lanesWidth}
	if o.To != 0 {
		p.to = h.Began + int64(o.To)
	}
	if p.to <= p.from { // nothing happened yet
		p.to = p.from + int64(time.Second)
	}
	p.lanes, p.laneOf = h.lanes()
	p.layOut()
	p.chooseWrites()
	return p, nil
}

// layOut gives everything its place: the head, the names of the faults, the lanes.
func (p *picture) layOut() {
	switch n := len(p.lanes); {
	case n <= 12:
		p.height = 26
	case n <= 24:
		p.height = 20
	default:
		p.height = 14
	}
	p.top = p.placeLabels(78) + 12
	y := p.top
	for i, group := range clients(p.lanes) {
		if i > 0 {
			y += 5
		}
		for j := group[0]; j < group[1]; j++ {
			p.lanes[j].top = y
			y += p.height
		}
	}
	p.bottom = max(y, p.top+p.height)
}

// chooseBars decides which holdings are drawn each by itself: the longest, if they can be seen at all, but not more than most.
func (p *picture) chooseBars(most int) {
	for least := 1.0; least < 2*lanesWidth; least *= 1.5 {
		n := 0
		p.bars = make([]bool, len(p.Rounds))
		for i, r := range p.Rounds {
			if s := p.span(r.Got, r.end()); r.Held() && p.shows(r.Got, r.end()) && s.to-s.from >= least {
				p.bars[i] = true
				n++
			}
		}
		if n <= most {
			return
		}
	}
}

// chooseWrites leaves out the marks of ordinary writes if they would hide the others.
func (p *picture) chooseWrites() {
	const most = 40 // in a lane
	n := 0
	for _, r := range p.Rounds {
		if r.Write != nil && p.shows(r.Write.Checked, r.Write.Acked) {
			n++
		}
	}
	p.writes = n <= most*len(p.lanes)
}

// render draws as finely as the size allows.
func (p *picture) render() []byte {
	most := mostBars
	for p.grain = 1; ; p.grain, most = 2*p.grain, most/2 {
		p.chooseBars(most)
		if drawn := p.draw(); len(drawn) <= mostBytes || p.grain > lanesWidth {
			return drawn
		}
	}
}

func (p *picture) draw() []byte {
	p.shown = make(map[string]bool)
	p.findPeak()
	var body svg
	p.drawHead(&body)
	p.drawGround(&body)
	p.drawFaults(&body)
	for i := range p.lanes {
		p.drawLane(&body, i)
	}
	p.drawOverlaps(&body)
	height := p.drawLegend(&body, p.bottom+46)
	var page svg
	page.add(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%s" viewBox="0 0 %d %s" role="img">`,
		pictureWidth, px(height), pictureWidth, px(height))
	page.add("<title>%s</title>", escaped(p.title()))
	page.add("<style>%s</style>", style)
	page.add(`<rect class="card" x="0.5" y="0.5" width="%d" height="%s" rx="8"/>`, pictureWidth-1, px(height-1))
	page.Write(body.Bytes())
	page.add("</svg>")
	return page.Bytes()
}

// title names what there is a name of.
func (p *picture) title() string {
	title := short(strings.TrimSpace(p.Library+" "+p.Version), 50)
	if p.Server != "" {
		title += " on " + short(p.Server, 40)
	}
	if p.Fault != "" {
		title += ": " + short(p.Fault, 60)
	}
	return title + fmt.Sprintf(", seed %d", p.Seed)
}
