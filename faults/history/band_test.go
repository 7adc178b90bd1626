package history

import (
	"fmt"
	"testing"
)

func TestBands(t *testing.T) {
	one, nobody := 1, 7
	h := &History{Ended: 872, Rounds: []Round{{Client: 0}, {Client: 1}, {Client: 1, Worker: 1}, {Client: 2}}} // a pixel is a nanosecond
	for name, c := range map[string]struct {
		strikes []Strike
		want    string // each: from, to, the lanes
	}{
		"mended":            {[]Strike{{Struck: 10, Mended: 50}}, "10-50 all;"},
		"never mended":      {[]Strike{{Struck: 10}}, "10-872 all;"},
		"a moment":          {[]Strike{{Struck: 10, Mended: 10}}, "10-12 all;"},
		"a moment, the end": {[]Strike{{Struck: 872, Mended: 872}}, "870-872 all;"},
		"of one client":     {[]Strike{{Struck: 10, Mended: 50, Client: &one}}, "10-50 1-2;"},
		"of nobody known":   {[]Strike{{Struck: 10, Mended: 50, Client: &nobody}}, "10-50 all;"},
		"again at once":     {[]Strike{{Struck: 10, Mended: 50}, {Struck: 50, Mended: 60}, {Struck: 70, Mended: 80}}, "10-50 all;50-60 all;70-80 all;"},
		"again meanwhile":   {[]Strike{{Struck: 40, Mended: 60}, {Struck: 10, Mended: 50}}, "10-60 all;"},
		"another":           {[]Strike{{Name: "a", Struck: 10, Mended: 50}, {Name: "b", Struck: 40, Mended: 60}}, "10-50 all;40-60 all;"},
	} {
		h.Faults = c.strikes
		p, err := h.picture(PictureOptions{})
		if err != nil {
			t.Fatal(err)
		}
		p.grain = 1
		got := ""
		for _, b := range p.bands() {
			lanes := "all"
			if b.top == p.lanes[1].top && b.bottom == p.lanes[2].top+p.height {
				lanes = "1-2"
			}
			got += fmt.Sprintf("%v-%v %s;", b.from-p.left, b.to-p.left, lanes)
		}
		if got != c.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestNamesOfFaultsHaveRoom(t *testing.T) {
	h := &History{Ended: 872, Faults: []Strike{
		{Name: "first", Struck: 10}, {Name: "second", Struck: 20}, {Name: "first", Struck: 25}, {Name: "third", Struck: 100}, {Name: "at the end", Struck: 870},
		{Name: "first", Struck: 300},
	}}
	p, err := h.picture(PictureOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, l := range p.labels {
		got += fmt.Sprintf("%s at %v in %v %v;", l.text, l.x-p.left, (l.y-78)/labelHeight, l.ends)
	}
	if got != "first at 10 in 1 false;second at 20 in 2 false;third at 100 in 1 false;first at 300 in 1 false;at the end at 870 in 1 true;" {
		t.Error(got)
	}
}
