package ctxlock

import "container/heap"

// agenda is a heap of held locks, the one that is due first in front. A lock is on it at most once.
type agenda []*holding

func (a *agenda) put(l *holding) {
	if l.place == offAgenda {
		heap.Push(a, l)
	}
}

func (a *agenda) remove(l *holding) {
	if l.place != offAgenda {
		heap.Remove(a, l.place)
	}
}

// Len, Less, Swap, Push and Pop are for package heap.
func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].due < a[j].due }

func (a agenda) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].place, a[j].place = i, j
}

func (a *agenda) Push(x any) {
	l := x.(*holding)
	l.place = len(*a)
	*a = append(*a, l)
}

func (a *agenda) Pop() any {
	last := len(*a) - 1
	l := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	l.place = offAgenda
	return l
}
