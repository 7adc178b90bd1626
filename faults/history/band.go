package history

import (
	"cmp"
	"fmt"
	"slices"
)

// band is where a fault is drawn.
type band struct {
	span
	top, bottom float64
	labelled    float64 // the height of the name, whether or not there was room for it
	title       string
}

// label is the name of a fault, above the lanes.
type label struct {
	x, y float64
	ends bool // at x, for it would reach out of the picture
	text string
}

const (
	labelHeight = 14
	mostRows    = 4
	mostBands   = 100 // that are told apart
)

// strikes are the faults to be shown, in order.
func (p *picture) strikes() []Strike {
	var strikes []Strike
	for _, s := range p.Faults {
		if p.shows(s.Struck, p.mended(s)) {
			strikes = append(strikes, s)
		}
	}
	slices.SortStableFunc(strikes, func(a, b Strike) int { return cmp.Compare(a.Struck, b.Struck) })
	return strikes
}

func (p *picture) mended(s Strike) int64 {
	if s.Mended == 0 {
		return max(p.to, s.Struck)
	}
	return max(s.Mended, s.Struck)
}

func nameOf(s Strike) string {
	name := short(s.Name, 50)
	if s.Client != nil {
		name += fmt.Sprintf(" (client %d)", *s.Client)
	}
	return name
}

// placeLabels finds room for the names of the faults, in as many rows as they need, and returns where the rows end. A name that comes again
// keeps its row; where there is no room it is left out, since then its neighbours tell.
func (p *picture) placeLabels(y float64) float64 {
	const letter = 6.3 // the width of one, about
	var rows []float64 // where each is free from
	rowOf := make(map[string]int)
	for _, s := range p.strikes() {
		name := nameOf(s)
		l := label{x: p.x(s.Struck), text: name}
		width := letter * float64(len([]rune(name)))
		from := l.x
		if l.ends = from+width > p.right()+12; l.ends {
			from -= width
		}
		row, known := rowOf[name]
		if !known {
			row = slices.IndexFunc(rows, func(free float64) bool { return free <= from })
		}
		if row < 0 && len(rows) < mostRows {
			row, rows = len(rows), append(rows, 0)
		}
		if row < 0 || rows[row] > from {
			continue
		}
		rowOf[name], rows[row] = row, l.x+width+10
		if l.ends {
			rows[row] = pictureWidth
		}
		l.y = y + labelHeight*float64(row+1)
		p.labels = append(p.labels, l)
	}
	return y + labelHeight*float64(len(rows))
}

// bands are where the faults are drawn: of the same name and client as one if they are nearer than a grain.
func (p *picture) bands() []band {
	var bands []band
	last := make(map[string]int)
	for _, s := range p.strikes() {
		at, name := p.wide(p.span(s.Struck, p.mended(s)), 2), nameOf(s)
		if len(bands) >= mostBands {
			s, name = Strike{Struck: s.Struck, Mended: s.Mended}, "faults"
		}
		if i, ok := last[name]; ok && at.from < bands[i].to+p.grain-1 {
			bands[i].to = max(bands[i].to, at.to)
			continue
		}
		last[name] = len(bands)
		b := band{span: at, top: p.top - 6, bottom: p.bottom + 4, labelled: p.top - 8}
		b.title = fmt.Sprintf("%s: from %.3f s", name, p.seconds(s.Struck))
		if s.Mended != 0 {
			b.title += fmt.Sprintf(" to %.3f s", p.seconds(s.Mended))
		}
		if i := slices.IndexFunc(p.labels, func(l label) bool { return l.text == name && l.x == p.x(s.Struck) }); i >= 0 {
			b.labelled = p.labels[i].y + 3
		}
		p.narrow(&b, s)
		bands = append(bands, b)
	}
	return bands
}

// narrow leaves a band to the lanes of the client that was struck, if it was one alone.
func (p *picture) narrow(b *band, s Strike) {
	if s.Client == nil {
		return
	}
	for _, group := range clients(p.lanes) {
		if p.lanes[group[0]].client == *s.Client {
			b.top, b.bottom = p.lanes[group[0]].top, p.lanes[group[1]-1].top+p.height
		}
	}
}
