package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// The timeline is drawn on half cells, for which there are characters, so that 80 columns show 160 moments. A half cell belongs
// to the one who held the lock for most of it: two bars never share one, unless they really overlap.

const (
	full      = '█'
	leftHalf  = '▌'
	rightHalf = '▐'
	dot       = '·'
	clash     = '╳'
	nothing   = ' '

	indent = 5 // of what is drawn, for the names
	margin = 3 // to the right, for the end of the axis
)

var signs = map[what]rune{killed: '✗', stalled: '~', ended: '!'}

// timeline is a drawing of a history.
type timeline struct {
	history
	screen
	start time.Duration
	each  time.Duration // a half cell's time
	cells int
}

// drawTimeline gives the lines of a drawing of what happened from start to end.
func drawTimeline(h history, start, end time.Duration, s screen) []string {
	t := timeline{history: h, screen: s, start: start, cells: s.columns - indent - margin}
	t.each = max((end-start)/time.Duration(2*t.cells), 1)
	lines := []string{t.header()}
	for _, name := range processes {
		lines = append(lines, "  "+t.paint(colourOf(name), name)+"  "+t.row(name))
	}
	lines = append(lines, t.axis(end)...)
	return append(lines, "", t.legend())
}

// cell is where a moment is drawn.
func (t *timeline) cell(at time.Duration) int {
	return min(max(int((at-t.start)/(2*t.each)), 0), t.cells-1)
}

// header has the titles of the scenes where they begin, as far as there is room before the next.
func (t *timeline) header() string {
	row := blank(indent + t.cells + margin)
	for i, s := range t.scenes {
		at, next := indent+t.cell(s.at), len(row)
		if i+1 < len(t.scenes) {
			next = indent + t.cell(t.scenes[i+1].at) - 1
		}
		write(row[:max(at, next)], at, s.text)
	}
	return t.paint(bold, trimmed(row))
}

// row is the line of one process, with what happened to it on top.
func (t *timeline) row(by string) string {
	cells := make([]rune, t.cells)
	for i := range cells {
		cells[i] = t.glyph(by, i)
	}
	for _, m := range t.marks {
		if m.by == by {
			cells[t.cell(m.at)] = signs[m.what]
		}
	}
	return t.painted(by, trimmed(cells))
}

func (t *timeline) glyph(by string, cell int) rune {
	left, right := t.holder(2*cell), t.holder(2*cell+1)
	switch {
	case t.clashes(by, cell):
		return clash
	case left == by && right == by:
		return full
	case left == by:
		return leftHalf
	case right == by:
		return rightHalf
	}
	from := t.start + time.Duration(2*cell)*t.each
	if waited := t.waited(by, from, from+2*t.each); waited >= t.each {
		return dot
	}
	return nothing
}

// holder is who had the lock for most of a half cell.
func (t *timeline) holder(half int) (by string) {
	from := t.start + time.Duration(half)*t.each
	var most time.Duration
	for _, h := range t.holds {
		if shared := common(h.start, h.end, from, from+t.each); shared > most {
			by, most = h.by, shared
		}
	}
	return by
}

// clashes reports whether a process held the lock in a cell while another did, and must not have.
func (t *timeline) clashes(by string, cell int) bool {
	from := t.start + time.Duration(2*cell)*t.each
	for _, o := range overlaps(t.holds) {
		mine := o.from.by == by || o.to.by == by
		if mine && o.violation() && common(o.to.start, o.to.start+o.certain, from, from+2*t.each) > 0 {
			return true
		}
	}
	return false
}

func (t *timeline) waited(by string, from, to time.Duration) (sum time.Duration) {
	for _, w := range t.waits {
		if w.by == by {
			sum += max(0, common(w.from, w.to, from, to))
		}
	}
	return sum
}

// common is how much two spans of time have in common; not positive if nothing.
func common(from1, to1, from2, to2 time.Duration) time.Duration {
	return min(to1, to2) - max(from1, from2)
}

// painted gives bars the colour of their process, and signs one that is seen.
func (t *timeline) painted(by, row string) string {
	look := func(r rune) colour {
		switch r {
		case full, leftHalf, rightHalf:
			return colourOf(by)
		case dot:
			return dim
		case nothing:
			return plain
		}
		return red
	}
	var out strings.Builder
	for row != "" {
		first, _ := utf8.DecodeRuneInString(row)
		rest := strings.TrimLeftFunc(row, func(r rune) bool { return look(r) == look(first) })
		out.WriteString(t.paint(look(first), row[:len(row)-len(rest)]))
		row = rest
	}
	return out.String()
}

// axis is a line with a tick for each second, or for as many as there is room for, and their numbers.
func (t *timeline) axis(end time.Duration) []string {
	step := time.Second
	for t.cell(t.start+step) < 4 && step < end-t.start {
		step *= 2
	}
	rule, numbers := []rune(strings.Repeat("─", t.cells)), blank(indent+t.cells+margin)
	for at := time.Duration(0); t.start+at <= end; at += step {
		i := t.cell(t.start + at)
		rule[i] = '┴'
		write(numbers, indent+i, fmt.Sprint(int(at.Seconds())))
	}
	rule[0] = '└'
	last := len(strings.TrimRight(string(numbers), " ")) // digits and blanks: a byte each
	write(numbers, last, " s")
	return []string{
		t.paint(dim, strings.Repeat(" ", indent)+string(rule)),
		t.paint(dim, trimmed(numbers)),
	}
}

func (t *timeline) legend() string {
	parts := []string{"█ holds the lock", "· waits", "✗ killed", "~ link stalled", "! taken by force"}
	return strings.Repeat(" ", indent) + t.paint(dim, strings.Join(parts, "   "))
}

func blank(n int) []rune { return []rune(strings.Repeat(" ", n)) }

// write puts text into a row, as far as it fits.
func write(row []rune, at int, text string) { copy(row[min(at, len(row)):], []rune(text)) }

func trimmed(row []rune) string { return strings.TrimRight(string(row), " ") }
