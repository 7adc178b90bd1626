package history

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// svg is a picture in the making. Lengths are pixels.
type svg struct{ bytes.Buffer }

func (s *svg) add(format string, arguments ...any) { fmt.Fprintf(&s.Buffer, format+"\n", arguments...) }

// rect draws a rectangle, with a title for whoever points at it unless that is empty.
func (s *svg) rect(class string, x, y, width, height float64, title string) {
	s.add(`<rect class="%s" x="%s" y="%s" width="%s" height="%s"%s`, class, px(x), px(y), px(width), px(height), closing("rect", title))
}

func (s *svg) line(class string, x1, y1, x2, y2 float64) {
	s.add(`<path class="%s" d="M%s %sL%s %s"/>`, class, px(x1), px(y1), px(x2), px(y2))
}

// path draws nothing for an empty path.
func (s *svg) path(class, d, title string) {
	if d != "" {
		s.add(`<path class="%s" d="%s"%s`, class, d, closing("path", title))
	}
}

func (s *svg) text(class string, x, y float64, content string) {
	s.add(`<text class="%s" x="%s" y="%s">%s</text>`, class, px(x), px(y), escaped(content))
}

func closing(element, title string) string {
	if title == "" {
		return "/>"
	}
	return "><title>" + escaped(title) + "</title></" + element + ">"
}

// bar is a rectangle as a part of a path.
func bar(x, y, width, height float64) string {
	return "M" + px(x) + " " + px(y) + "h" + px(width) + "v" + px(height) + "h" + px(-width) + "z"
}

func stroke(x, y, dx, dy float64) string {
	return "M" + px(x) + " " + px(y) + "l" + px(dx) + " " + px(dy)
}

func cross(x, y, size float64) string {
	return stroke(x-size, y-size, 2*size, 2*size) + stroke(x-size, y+size, 2*size, -2*size)
}

// px rounds to a tenth of a pixel: more cannot be seen, and takes space.
func px(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10+0, 'f', -1, 64) }

func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder does not fail
	return b.String()
}

// short cuts a text that others wrote.
func short(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

// thousands parts the digits of a number in groups.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// count is a number and what it counts.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return thousands(n) + " " + many
}
