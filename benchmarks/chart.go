package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"strings"
)

// chart is a picture of horizontal bars in groups.
type chart struct {
	title  string
	notes  []string // lines below the title: unit, what the shades mean, conditions
	scale  scale
	most   float64 // bars for more than that end there; 0: none do
	groups []group
}

type group struct {
	name string
	bars []bar
}

// bar has a value and, paler, one beyond it, if that is more.
type bar struct {
	label       string
	value, pale float64 // NaN for none; +Inf is a bar to the end
	text        string  // beside it
	ours        bool
}

type scale int

const (
	logarithmic scale = iota
	linear            // all groups to one scale
	linearEach        // each group to its own
)

// Lengths in pixels. The colours are of middle tone and stand on a card of their own, so they can be read on a page of any colour.
const (
	chartWidth   = 820
	barsFrom     = 190
	barsTo       = 590
	rowHeight    = 21
	barHeight    = 13
	groupGap     = 16
	lineHeight   = 17
	colourOurs   = "#1a7f5a"
	colourPeer   = "#7d8a99"
	colourText   = "#24292f"
	colourQuiet  = "#57606a"
	colourCard   = "#fbfbf9"
	colourBorder = "#d5d9de"
)

// render draws the chart. Groups without bars are left out.
func (c chart) render() []byte {
	var body bytes.Buffer
	y := 30
	text(&body, 20, y, colourText, `font-size="17" font-weight="600"`, c.title)
	for _, note := range c.notes {
		y += lineHeight
		text(&body, 20, y, colourQuiet, `font-size="12"`, note)
	}
	y += 8
	if c.scale == logarithmic {
		y = c.drawAxis(&body, y)
	}
	for _, g := range c.groups {
		if len(g.bars) > 0 {
			y = c.drawGroup(&body, g, y)
		}
	}
	y += groupGap
	var picture bytes.Buffer
	fmt.Fprintf(&picture, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" role="img">`+"\n", chartWidth, y, chartWidth, y)
	fmt.Fprintf(&picture, "<title>%s</title>\n", escaped(c.title))
	fmt.Fprintf(&picture, `<rect x="0.5" y="0.5" width="%d" height="%d" rx="8" fill="%s" stroke="%s"/>`+"\n", chartWidth-1, y-1, colourCard, colourBorder)
	picture.Write(body.Bytes())
	picture.WriteString("</svg>\n")
	return picture.Bytes()
}

// drawAxis labels the powers of ten and rules lines for them through all groups.
func (c chart) drawAxis(w *bytes.Buffer, y int) int {
	low, high := c.powers()
	y += 14
	bottom := y + 6
	for _, g := range c.groups {
		if len(g.bars) > 0 {
			bottom += groupGap + (len(g.bars)+1)*rowHeight
		}
	}
	for p := low; p <= high; p++ {
		x := barsFrom + (barsTo-barsFrom)*(p-low)/(high-low)
		text(w, x, y, colourQuiet, `font-size="11" text-anchor="middle"`, thousandsOf(p))
		fmt.Fprintf(w, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="%s"/>`+"\n", x, y+5, x, bottom, colourBorder)
	}
	return y
}

func thousandsOf(power int) string {
	if power < 0 {
		return fmt.Sprint(math.Pow10(power))
	}
	return thousands(int64(math.Pow10(power)))
}

func (c chart) drawGroup(w *bytes.Buffer, g group, y int) int {
	y += groupGap + rowHeight
	text(w, 20, y-8, colourText, `font-size="13" font-weight="600"`, g.name)
	for _, b := range g.bars {
		c.drawBar(w, g, b, y)
		y += rowHeight
	}
	return y
}

func (c chart) drawBar(w *bytes.Buffer, g group, b bar, y int) {
	colour, weight := colourPeer, "400"
	if b.ours {
		colour, weight = colourOurs, "600"
	}
	text(w, barsFrom-8, y+barHeight-2, colourText, fmt.Sprintf(`font-size="12" font-weight="%s" text-anchor="end"`, weight), b.label)
	end := c.width(g, b.value)
	if longer := c.width(g, b.pale); longer > end {
		rectangle(w, barsFrom, y, longer, colour, "0.3")
		rectangle(w, barsFrom, y, end, colour, "1")
		end = longer
	} else {
		rectangle(w, barsFrom, y, end, colour, "1")
	}
	// The rim keeps the lines of the axis out of the figures.
	text(w, barsFrom+int(end)+7, y+barHeight-2, colourText, fmt.Sprintf(`font-size="12" font-weight="%s" paint-order="stroke" stroke="%s" stroke-width="4"`, weight, colourCard), b.text)
}

// width is how long a bar is. Some of it can always be seen.
func (c chart) width(g group, value float64) float64 {
	const all, least = float64(barsTo - barsFrom), 2
	switch {
	case math.IsNaN(value):
		return 0
	case math.IsInf(value, 1):
		return all
	case value <= 0:
		return least
	case c.most > 0:
		return max(all*min(value/c.most, 1), least)
	case c.scale == logarithmic:
		low, high := c.powers()
		return max(all*(math.Log10(value)-float64(low))/float64(high-low), least)
	case c.scale == linearEach:
		return max(all*value/greatest([]group{g}), least)
	}
	return max(all*value/greatest(c.groups), least)
}

// powers are the powers of ten below and above all values.
func (c chart) powers() (low, high int) {
	smallest, largest := math.Inf(1), greatest(c.groups)
	for _, g := range c.groups {
		for _, b := range g.bars {
			if b.value > 0 {
				smallest = min(smallest, b.value)
			}
		}
	}
	if math.IsInf(smallest, 1) {
		return 0, 1
	}
	low, high = int(math.Floor(math.Log10(smallest))), int(math.Ceil(math.Log10(largest)))
	return low, max(high, low+1)
}

// greatest is the greatest value with an end, and never 0.
func greatest(groups []group) float64 {
	most := 0.0
	for _, g := range groups {
		for _, b := range g.bars {
			for _, v := range []float64{b.value, b.pale} {
				if !math.IsInf(v, 1) && v > most {
					most = v
				}
			}
		}
	}
	if most == 0 {
		return 1
	}
	return most
}

func rectangle(w *bytes.Buffer, x, y int, width float64, colour, opacity string) {
	fmt.Fprintf(w, `<rect x="%d" y="%d" width="%.1f" height="%d" rx="2" fill="%s" fill-opacity="%s"/>`+"\n", x, y, width, barHeight, colour, opacity)
}

func text(w *bytes.Buffer, x, y int, colour, attributes, content string) {
	fmt.Fprintf(w, `<text x="%d" y="%d" fill="%s" %s>%s</text>`+"\n", x, y, colour, attributes, escaped(content))
}

func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder does not fail
	return b.String()
}
