package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

// screen is what is written to.
type screen struct {
	io.Writer
	columns int
	colours bool
}

const (
	defaultColumns = 80
	leastColumns   = 60
	mostColumns    = 160
)

// newScreen finds out how wide the output is, and whether colours are of use.
func newScreen(out io.Writer) screen {
	s := screen{Writer: out, columns: defaultColumns}
	if f, ok := out.(*os.File); ok {
		if n := columnsOf(f); n > 0 {
			s.columns = n
		}
		info, err := f.Stat()
		s.colours = err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		s.columns = n
	}
	s.columns = min(max(s.columns, leastColumns), mostColumns)
	return s
}

// colour is a terminal's number for it.
type colour int

const (
	plain   colour = 0
	bold    colour = 1
	dim     colour = 2
	red     colour = 31
	green   colour = 32
	yellow  colour = 33
	magenta colour = 35
	cyan    colour = 36
)

// colourOf gives each process its own.
func colourOf(process string) colour {
	switch process {
	case "A":
		return cyan
	case "B":
		return yellow
	case "C":
		return magenta
	}
	return plain
}

// paint colours text where that is of use.
func (s screen) paint(c colour, text string) string {
	if !s.colours || c == plain || text == "" {
		return text
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", c, text)
}

func (s screen) line(format string, args ...any) { fmt.Fprintf(s, format+"\n", args...) }

// seconds writes a time since the start.
func seconds(d time.Duration) string { return fmt.Sprintf("%6.3f s", d.Seconds()) }

// length writes a time that something took, with as much detail as is of interest.
func length(d time.Duration) string {
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
}
