package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"testing"
)

func TestChartsAreWellFormed(t *testing.T) {
	files := charts(conditions{Server: "a <server> & more", Date: "today"}, sample(), samplePings)
	if len(files) != 7 {
		t.Error(len(files), "charts")
	}
	for name, content := range files {
		bars := 0
		for d := xml.NewDecoder(bytes.NewReader(content)); ; {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
				bars++
				fits(t, name, e)
			}
		}
		if bars < 5 {
			t.Errorf("%s has %d bars", name, bars)
		}
	}
}

// fits checks that a rectangle is within the picture.
func fits(t *testing.T, name string, e xml.StartElement) {
	t.Helper()
	at := make(map[string]float64)
	for _, a := range e.Attr {
		at[a.Name.Local], _ = strconv.ParseFloat(a.Value, 64)
	}
	if at["width"] <= 0 || at["x"]+at["width"] > chartWidth {
		t.Errorf("%s: a rectangle at %v, %v wide", name, at["x"], at["width"])
	}
}

func TestNothingMeasuredDrawsNothing(t *testing.T) {
	if files := charts(conditions{}, nil, nil); len(files) != 0 {
		t.Error(len(files), "charts")
	}
}
