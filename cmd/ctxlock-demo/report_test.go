package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// compare reports where a drawing is not as it was meant. Lines begin at the left margin, to be read in place.
func compare(t *testing.T, got, want string) {
	t.Helper()
	if got != strings.TrimPrefix(want, "\n") {
		t.Errorf("got:\n%s", got)
	}
}

func TestReport(t *testing.T) {
	var out bytes.Buffer
	if !printReport(screen{Writer: &out, columns: 80}, story(), 0, 10*time.Second) {
		t.Error("a story in which all is well has failed")
	}
	compare(t, out.String(), `
     1 release     2 kill                3 lost link          4 force
  A  ▐███▌         ████✗                                       ··········▐███
  B   ···▐███       ·············▐███▌   ███████~██████▌              ███▌
  C   ·······████                         ··············███▌  ▐██████!
     └──────┴──────┴──────┴──────┴───────┴──────┴──────┴──────┴──────┴──────┴
     0      1      2      3      4       5      6      7      8      9      10 s

     █ holds the lock   · waits   ✗ killed   ~ link stalled   ! taken by force

  Changes of hands, from the end of one context to the start of the next
   0.601 s  A → B  released       1.0 ms
   1.101 s  B → C  released       1.0 ms
   4.000 s  A → B  killed         1.50 s   its key had to run out
   7.150 s  B → C  link lost      150 ms   its context ended before its key did
   8.999 s  C → B  by force      −1.0 ms
   9.501 s  B → A  released       1.0 ms

  ✓  no two bars overlap: 10 holdings, 6 changes of hands
  ✓  by force: two contexts were alive for 1.0 ms, until word came (allowed: 1s)
  ✓  no work was lost: 1 was added 9 times and the balance is 9
  ✓  nothing is left on the server
  ✓  all four scenes happened

OK  one holder at a time, no work lost, nothing left behind, in 10.00 s
`)
}

func TestTimelineShowsOverlap(t *testing.T) {
	f := story()
	f.holds[5].alive, f.holds[5].end = 7400*ms, 7400*ms
	var out bytes.Buffer
	if printReport(screen{Writer: &out, columns: 60}, f, 0, 10*time.Second) {
		t.Error("two held the lock and it went well")
	}
	drawing, rest, _ := strings.Cut(out.String(), "\n\n")
	compare(t, drawing+"\n", `
     1 release 2 kill          3 lost link    4 force
  A  ▐██       ███✗                            ·······▐██
  B   ··██▌     ·········▐██▌  █████~█████╳╳        ██▌
  C   ····▐██▌                  ··········╳╳▌ ▐████!
     └────┴────┴────┴────┴─────┴────┴────┴────┴────┴────┴
     0    1    2    3    4     5    6    7    8    9    10 s
`)
	if !strings.Contains(rest, "✗  TWO HELD THE LOCK AT ONCE: B and C, for 250 ms") || !strings.Contains(rest, "FAILED") {
		t.Errorf("got:\n%s", rest)
	}
}

// Whatever its width, a drawing has no two bars in one column unless they overlap, and every bar is seen.
func TestTimelineAtEveryWidth(t *testing.T) {
	f := story()
	for columns := leastColumns; columns <= mostColumns; columns++ {
		lines := drawTimeline(f.history, 0, 10*time.Second, screen{columns: columns})
		rows := [][]rune{}
		for _, line := range lines {
			if n := len([]rune(line)); n > columns && columns >= defaultColumns {
				t.Errorf("%d columns: a line of %d: %s", columns, n, line)
			}
		}
		for _, line := range lines[1:4] {
			rows = append(rows, append([]rune(line), blank(columns)...))
		}
		for i := range columns {
			var left, right int
			for _, row := range rows {
				if slices.Contains([]rune{full, leftHalf}, row[i]) {
					left++
				}
				if slices.Contains([]rune{full, rightHalf}, row[i]) {
					right++
				}
			}
			if left > 1 || right > 1 {
				t.Errorf("%d columns: two bars in column %d:\n%s", columns, i, strings.Join(lines, "\n"))
			}
		}
		if drawing := strings.Join(lines, "\n"); strings.Contains(drawing, string(clash)) {
			t.Errorf("%d columns: an overlap where there is none:\n%s", columns, drawing)
		}
		for i, want := range []int{3, 4, 3} { // bars of A, B and C
			isBar := func(r rune) bool { return slices.Contains([]rune{full, leftHalf, rightHalf, '~', '!', '✗'}, r) }
			if got := len(strings.FieldsFunc(lines[1+i][indent:], func(r rune) bool { return !isBar(r) })); got != want {
				t.Errorf("%d columns: %s has %d bars and not %d:\n%s", columns, processes[i], got, want, strings.Join(lines, "\n"))
			}
		}
	}
}

func TestColours(t *testing.T) {
	s := screen{colours: true, columns: 80}
	lines := drawTimeline(story().history, 0, 10*time.Second, s)
	if !strings.Contains(lines[1], "\x1b[36m████\x1b[0m\x1b[31m✗\x1b[0m") {
		t.Errorf("%q", lines[1])
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	t.Setenv("COLUMNS", "")
	if s := newScreen(file); s.colours || s.columns != defaultColumns {
		t.Errorf("a file is taken for a terminal: %+v", s)
	}
	t.Setenv("COLUMNS", "100")
	if s := newScreen(file); s.columns != 100 {
		t.Errorf("COLUMNS makes no difference: %+v", s)
	}
}
