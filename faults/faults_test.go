package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ctxlock/ctxlock/faults/history"
)

// The lab itself is tried on ctxlock, and on lockers that do what no lock may do: it has to see that.

// wrongdoers are contenders for tests, told by their names.
var wrongdoers = []Contender{
	{Library: "everybody's", Open: func(Place) (Locker, error) { return everybodys{}, nil }},
	{Library: "nobody's", Open: func(Place) (Locker, error) { return nobodys{}, nil }},
	{Library: "stubborn", Open: openStubborn},
	{Library: "leaking", Open: openLeaking},
	{Library: "keeping", Open: openKeeping, Own: func(string) bool { return true }},
	{Library: "repeating", Fences: true, Open: openRepeating},
	{Library: "dawdling", Open: openDawdling},
	{Library: "forgetful", Open: openForgetful},
	{Library: "hasty", Open: func(Place) (Locker, error) { return hasty{}, nil }},
}

func init() { extras = append(extras, wrongdoers...) } // here, since clients are this program, too

// everybodys gives the lock to whoever asks.
type everybodys struct{}

func (everybodys) Lock(ctx context.Context, _ string) (Holding, error) { return forever{}, ctx.Err() }
func (everybodys) Close()                                              {}

func (e everybodys) Try(ctx context.Context, name string) (Holding, error) { return e.Lock(ctx, name) }
func (e everybodys) Force(ctx context.Context, name string) (Holding, error) {
	return e.Lock(ctx, name)
}

// hasty fails for other names than the lock's, for a reason that is not the caller's.
type hasty struct{ everybodys }

func (h hasty) Lock(ctx context.Context, name string) (Holding, error) {
	if name == lockName {
		return h.everybodys.Lock(ctx, name)
	}
	return nil, errors.New("too many others")
}

// nobodys gives the lock to nobody.
type nobodys struct{}

func (nobodys) Lock(ctx context.Context, _ string) (Holding, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
func (nobodys) Close() {}

// forever is a holding that does not end.
type forever struct{}

func (forever) Alive() bool    { return true }
func (forever) Cause() error   { return nil }
func (forever) Token() int64   { return 0 }
func (forever) Release() error { return nil }

// stubborn is ctxlock, but for holdings that do not end by themselves, whatever becomes of the lock.
type stubborn struct{ Locker }

func openStubborn(at Place) (Locker, error) {
	l, err := mustFind(oursLibrary).Open(at)
	return stubborn{l}, err
}

func (s stubborn) Lock(ctx context.Context, name string) (Holding, error) {
	h, err := s.Locker.Lock(ctx, name)
	if err != nil {
		return nil, err
	}
	return unending{h}, nil
}

type unending struct{ Holding }

func (unending) Alive() bool { return true }

// leaking is ctxlock, but for a Close that does nothing.
type leaking struct{ Locker }

func openLeaking(at Place) (Locker, error) {
	l, err := mustFind(oursLibrary).Open(at)
	return leaking{l}, err
}

func (leaking) Close() {}

// keeping is ctxlock, but for holdings that are never given back. It also takes all keys for its own, counters of tokens too, which are left.
type keeping struct{ Locker }

func openKeeping(at Place) (Locker, error) {
	l, err := mustFind(oursLibrary).Open(at)
	return keeping{l}, err
}

func (k keeping) Lock(ctx context.Context, name string) (Holding, error) {
	h, err := k.Locker.Lock(ctx, name)
	if err != nil {
		return nil, err
	}
	return kept{h}, nil
}

type kept struct{ Holding }

func (kept) Release() error { return nil }

// repeating is ctxlock, but for tokens, of which the lower half comes again.
type repeating struct{ Locker }

func openRepeating(at Place) (Locker, error) {
	l, err := mustFind(oursLibrary).Open(at)
	return repeating{l}, err
}

func (r repeating) Lock(ctx context.Context, name string) (Holding, error) {
	h, err := r.Locker.Lock(ctx, name)
	if err != nil {
		return nil, err
	}
	return halved{h}, nil
}

type halved struct{ Holding }

func (h halved) Token() int64 { return h.Holding.Token()%2 + 1 }

// dawdling is ctxlock, but for the first release, which hands the lock to nobody for two validities.
type dawdling struct {
	Locker
	released *atomic.Bool
}

func openDawdling(at Place) (Locker, error) {
	l, err := mustFind(oursLibrary).Open(at)
	return dawdling{l, new(atomic.Bool)}, err
}

func (d dawdling) Lock(ctx context.Context, name string) (Holding, error) {
	h, err := d.Locker.Lock(ctx, name)
	if err != nil {
		return nil, err
	}
	return dawdled{h, d.released}, nil
}

type dawdled struct {
	Holding
	released *atomic.Bool
}

func (d dawdled) Release() error {
	if d.released.CompareAndSwap(false, true) {
		time.Sleep(2 * validity)
	}
	return d.Holding.Release()
}

// forgetful is ctxlock, but for the tenth call, of which it thinks again after two validities.
type forgetful struct {
	Locker
	calls *atomic.Int32
}

func openForgetful(at Place) (Locker, error) {
	l, err := mustFind(oursLibrary).Open(at)
	return forgetful{l, new(atomic.Int32)}, err
}

func (f forgetful) Lock(ctx context.Context, name string) (Holding, error) {
	if f.calls.Add(1) == 10 {
		sleep(ctx, 2*validity)
	}
	return f.Locker.Lock(ctx, name)
}

func mustFind(library string) Contender {
	c, err := find(library)
	if err != nil {
		panic(err)
	}
	return c
}

func faultNamed(t *testing.T, name string) *fault {
	t.Helper()
	i := slices.IndexFunc(allFaults, func(f *fault) bool { return f.Name == name })
	if i < 0 {
		t.Fatalf("there is no fault %q", name)
	}
	return allFaults[i]
}

// live is a run of one client with three workers, which is enough to wait for each other.
func live(beside ...beside) *fault {
	return &fault{Name: "nothing for long", Text: "-", Clients: 1, Workers: 3, Holds: brief, Beside: beside,
		Bound: oneValidity, Strike: during(nothing, 5*validity/2)}
}

func TestTheLabSeesWhoIsNotServed(t *testing.T) {
	for _, c := range []struct {
		library string
		beside  []beside
		wrong   string
		free    bool
	}{
		{"dawdling", nil, "free for 4.", true},
		{"forgetful", nil, "beyond its turn", false},
		{"everybody's", []beside{racing}, "two contexts alive after Try beside Force, 400 of 400", false},
		{"hasty", []beside{bustling}, "a patient call for a free lock: too many others", false},
		{oursLibrary, nil, "", false},
	} {
		t.Run(c.library+", "+c.wrong, func(t *testing.T) {
			t.Parallel()
			o := performedOf(t, c.library, live(c.beside...))
			wrong := strings.Join(slices.Concat(o.Slow, o.Complain), ", ")
			if !strings.Contains(wrong, c.wrong) || c.wrong == "" && wrong != "" {
				t.Errorf("it found %q", wrong)
			}
			if free := o.Live.Free > oneValidity.free; free != c.free {
				t.Errorf("free for %v", o.Live.Free)
			}
		})
	}
}

func TestTheLabSeesWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ library, fault, wrong string }{
		{"everybody's", "nothing", "two holders"},
		{"everybody's", "nothing", "lost"},
		{"stubborn", "stalled", "two holders"},
		{"stubborn", "stalled", "lost"},
		{"leaking", "nothing", "connection"},
		{"leaking", "nothing", "goroutine"},
		{"nobody's", "nothing", "nobody had it"},
		{"keeping", "nothing", "key"},
		{"repeating", "nothing", "refused though"},
	} {
		t.Run(c.library+", "+c.wrong, func(t *testing.T) {
			t.Parallel()
			o := performed(t, c.library, c.fault)
			if wrong := strings.Join(o.Wrong, ", "); !strings.Contains(wrong, c.wrong) {
				t.Errorf("it found %q", wrong)
			}
		})
	}
}

// Some faults of each kind of servers, as long as they are short. `make faults` runs all.
func TestOursKeepsItsPromise(t *testing.T) {
	for _, name := range []string{"nothing", "stalled", "frozen", "crash", "cancelled", "mixed fleet", "node stalled", "slot migrated"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if o := performed(t, oursLibrary, name); len(o.Wrong)+len(o.Slow) > 0 || o.Holdings < 10 {
				t.Errorf("%s", o)
			}
		})
	}
}

func TestTokensHoldWhereLocksDoNot(t *testing.T) {
	for _, name := range []string{"stopped before writing", "FLUSHALL", "failover Sentinel"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := performed(t, oursLibrary, name)
			if len(o.Wrong) > 0 || o.Fenced.Written == 0 {
				t.Errorf("%s", o)
			}
			if name == "stopped before writing" && (o.Refused == 0 || o.Plain.Late == 0) {
				t.Errorf("no late write was there to be refused: %s", o)
			}
		})
	}
}

// together is how many runs the tests make at once.
var together = make(chan struct{}, 6)

// once keeps what was performed: several tests look at one run.
var once sync.Map

func performed(t *testing.T, library, name string) *outcome {
	t.Helper()
	f := faultNamed(t, name)
	perform, _ := once.LoadOrStore(library+name, sync.OnceValues(func() (*outcome, error) {
		together <- struct{}{}
		defer func() { <-together }()
		r, err := open(f, mustFind(library), 1)
		if err != nil {
			return nil, err
		}
		return r.perform()
	}))
	o, err := perform.(func() (*outcome, error))()
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// performedOf is a run of a fault that is no row of the table.
func performedOf(t *testing.T, library string, f *fault) *outcome {
	t.Helper()
	together <- struct{}{}
	defer func() { <-together }()
	r, err := open(f, mustFind(library), 1)
	if err != nil {
		t.Fatal(err)
	}
	o, err := r.perform()
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestFaultsHaveNamesOfTheirOwn(t *testing.T) {
	seen := make(map[string]bool)
	for _, f := range allFaults {
		if seen[fileName(f.Name)] || f.Text == "" || f.Strike == nil {
			t.Errorf("%q", f.Name)
		}
		seen[fileName(f.Name)] = true
	}
}

func TestSeedsRepeatDraws(t *testing.T) {
	first, again, other, next := seedOf(1, "a"), seedOf(1, "a"), seedOf(1, "b"), seedOf(2, "a")
	if first != again || first == other || first == next {
		t.Error("seeds are not each fault's own")
	}
}

func TestBadFlags(t *testing.T) {
	for _, args := range [][]string{{"stalled"}, {"-page", "x.md", "-only", "stalled"}, {"-soak", "x"}, {"-soak", "0"}, {"-soak", "-5m"},
		{"-soak", "1m", "-library", "ctxlock"}, {"-soak", "1m", "-page", "x.md"}, {"-beside", "0"}, {"-nonsense"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v is taken", args)
		}
	}
}

func TestOutcomeInWords(t *testing.T) {
	o := &outcome{Overlaps: 1, Together: 1200 * time.Millisecond, Stuck: true, Busy: 1, Plain: history.Updates{Lost: 2, Late: 1, Elements: []history.Element{1, 2}}}
	o.weigh(false, false)
	if got, want := strings.Join(o.Wrong, ", "), "two holders for 1.2 s, 1 update lost, nobody had it for 12 s, 1 call did not end"; got != want {
		t.Errorf("%q", got)
	}
	beyond := &outcome{Overlaps: 1, Fenced: history.Updates{Lost: 1}}
	if beyond.weigh(true, true); len(beyond.Beyond) != 1 || len(beyond.Wrong) != 1 {
		t.Errorf("%+v", beyond)
	}
}

func TestNamesAreChecked(t *testing.T) {
	for _, names := range []string{"nosuch", "stalled,nosuch", "stalled,"} {
		if _, err := selected(allFaults, names); err == nil {
			t.Errorf("%q is taken", names)
		}
		if _, err := chosen(everybody(), strings.ReplaceAll(names, "stalled", oursLibrary)); err == nil {
			t.Errorf("libraries like %q are taken", names)
		}
	}
	for names, want := range map[string]int{"": len(allFaults), "stalled": 1, "three at once": 1, "three": 2, "cut, cuts": 2} {
		if got, err := selected(allFaults, names); err != nil || len(got) != want {
			t.Errorf("%q gives %d faults, %v", names, len(got), err)
		}
	}
}

// Two faults may stop one process at once. It goes on when both are mended.
func TestAProcessIsStoppedByTwo(t *testing.T) {
	t.Parallel()
	m, err := enlist(contract{Library: "nobody's", Workers: 1}, testRegister())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.kill)
	within(t, leaving, "stopping it twice", func() {
		m.freeze()
		m.freeze()
	})
	m.thaw()
	m.tell(order{What: check}, 0)
	select {
	case <-m.feels:
		t.Error("it goes on while one of the two still stops it")
	case <-time.After(200 * time.Millisecond):
	}
	m.thaw()
	select {
	case <-m.feels:
	case <-time.After(leaving):
		t.Error("it does not go on")
	}
}

// What is to go on before it was to stop goes on.
func TestAProcessGoesOnBeforeItStops(t *testing.T) {
	t.Parallel()
	m, err := enlist(contract{Library: "nobody's", Workers: 1}, testRegister())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.kill)
	m.thaw()
	m.freeze()
	if _, answers := m.health(); !answers {
		t.Error("it stands still")
	}
}
