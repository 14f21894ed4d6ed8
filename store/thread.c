/*
 * thread - see thread.h. Numbers in comments are the steps of RFC 5256 3, REFERENCES.
 *
 * Nodes are messages and dummies (message ids that somebody refers to and nobody has); node 0 is the root. While links are made (1)
 * only parents are kept. All order comes from one sort of the messages by sent date, done first: whatever is then appended in that
 * order is sorted (4, 6), and a dummy's first child is the one met first.
 *
 * What hostile references could do is bounded: the number of dummies; and the walk to the top that looks for loops. That walk only
 * happens when a node with children gets a parent, so it costs nothing in mailboxes that people have; when it adds up, the forest is turned
 * into a link-cut tree, which answers "who is on top?" in logarithmic time however deep the chains are.
 */
#include "store/thread.h"

#include <stdlib.h>

#include "util/hash.h"
#include "util/must.h"
#include "util/slice_sort.h"

#define ROOT 0u
#define NOBODY UINT32_MAX
#define DUMMIES_SPARE 100000u                   /* dummies there may be beyond 4 for each message */
#define WALK_PER_NODE 64u                       /* steps of walks for each node before the link-cut tree is made */

struct node {
        uint32_t parent;                        /* ROOT: none (yet) */
        uint32_t message;                       /* number of the message, NOBODY: a dummy */
        uint32_t first, last, next;             /* children, in order; ROOT: none */
};

struct slot {                                   /* of a table by hash, open addressing */
        uint64_t key;                           /* 0: empty */
        uint32_t node;
};
struct slots {
        struct slot *v;
        uint32_t n, cap;                        /* cap: a power of two */
        uint32_t expected;                      /* so many will come, about */
};

struct splay {                                  /* a link-cut tree's node; 0: none, as the root is in no tree here */
        uint32_t left, right, up;
};

enum step { STEP_SORT, STEP_LINK, STEP_SUBJECTS, STEP_PRUNE, STEP_COUNT, STEP_ROOTS, STEP_TABLE, STEP_MERGE, STEP_LATEST, STEP_SORT_ROOTS,
            STEP_CHILDREN, STEP_DONE };

struct thread_job {
        enum thread_algorithm algorithm;
        const struct thread_message *messages;
        uint32_t messages_n;
        enum step step;
        uint32_t at;                            /* within the step */
        struct slice_sort sort;
        struct sort_item *order;                /* the messages by sent date */
        struct node *nodes;
        uint32_t nodes_n, nodes_cap, dummies, dummies_max;
        uint32_t *node_of;                      /* message → node */
        struct slots table;                     /* message ids, or base subjects */
        uint64_t walked;
        struct splay *cut;                      /* NULL: not needed so far */
        uint32_t *roots;                        /* threads, in order */
        uint32_t roots_n, roots_cap;
        struct sort_item *root_items;
        int64_t *latest;                        /* REFS: node → internal date */
        /* printing */
        uint32_t print_root, print_at;
        bool print_down;                        /* print_at is to be printed, else it and what is below was */
};

/* ---- tables ---- */

static void slots_insert(struct slots *t, uint64_t key, uint32_t node)
{
        uint32_t i = (uint32_t)hash_number(key) & (t->cap - 1);

        while (t->v[i].key)
                i = (i + 1) & (t->cap - 1);
        t->v[i] = (struct slot){ key, node };
        t->n++;
}

static void slots_grow(struct slots *t)
{
        struct slots bigger = { .cap = t->cap ? t->cap * 2 : 1024, .expected = t->expected };

        while (bigger.cap / 4 * 3 <= t->expected && bigger.cap < 1u << 30)
                bigger.cap *= 2;
        bigger.v = xcalloc(bigger.cap, sizeof *bigger.v);
        for (uint32_t i = 0; i < t->cap; i++)
                if (t->v[i].key)
                        slots_insert(&bigger, t->v[i].key, t->v[i].node);
        free(t->v);
        *t = bigger;
}

static struct slot *slots_find(const struct slots *t, uint64_t key)
{
        if (!t->cap)
                return NULL;
        for (uint32_t i = (uint32_t)hash_number(key) & (t->cap - 1); t->v[i].key; i = (i + 1) & (t->cap - 1))
                if (t->v[i].key == key)
                        return &t->v[i];
        return NULL;
}

static void slots_add(struct slots *t, uint64_t key, uint32_t node)
{
        if (t->n >= t->cap / 4 * 3)
                slots_grow(t);
        slots_insert(t, key, node);
}

static void slots_clear(struct slots *t)
{
        free(t->v);
        *t = (struct slots){ .expected = t->expected };
}

/* ---- nodes ---- */

static uint32_t node_new(struct thread_job *j, uint32_t message)
{
        if (j->nodes_n == j->nodes_cap) {
                j->nodes_cap += j->nodes_cap / 2 + 64;
                j->nodes = xrealloc(j->nodes, j->nodes_cap * sizeof *j->nodes);
                if (j->cut)
                        j->cut = xrealloc(j->cut, j->nodes_cap * sizeof *j->cut);
        }
        j->nodes[j->nodes_n] = (struct node){ .message = message };
        if (j->cut)
                j->cut[j->nodes_n] = (struct splay){ 0, 0, 0 };
        return j->nodes_n++;
}

static bool is_dummy(const struct thread_job *j, uint32_t node)
{
        return j->nodes[node].message == NOBODY;
}

/* ---- who is on top: link-cut tree (Sleator and Tarjan) without aggregates ---- */

static bool splay_root(const struct splay *t, uint32_t x)
{
        uint32_t up = t[x].up;

        return !up || (t[up].left != x && t[up].right != x);
}

static void rotate(struct splay *t, uint32_t x)
{
        uint32_t up = t[x].up, over = t[up].up;

        if (!splay_root(t, up))
                *(t[over].left == up ? &t[over].left : &t[over].right) = x;
        t[x].up = over;
        if (t[up].left == x) {
                t[up].left = t[x].right;
                if (t[x].right)
                        t[t[x].right].up = up;
                t[x].right = up;
        } else {
                t[up].right = t[x].left;
                if (t[x].left)
                        t[t[x].left].up = up;
                t[x].left = up;
        }
        t[up].up = x;
}

static void splay(struct splay *t, uint32_t x)
{
        while (!splay_root(t, x)) {
                uint32_t up = t[x].up;

                if (!splay_root(t, up))
                        rotate(t, (t[t[up].up].left == up) == (t[up].left == x) ? up : x);
                rotate(t, x);
        }
}

/* The path from x to the top becomes one splay tree with x at its root. */
static void access(struct splay *t, uint32_t x)
{
        uint32_t below = 0;

        for (uint32_t y = x; y; y = t[y].up) {
                splay(t, y);
                t[y].right = below;
                below = y;
        }
        splay(t, x);
}

static uint32_t cut_top(struct splay *t, uint32_t x)
{
        access(t, x);
        while (t[x].left)
                x = t[x].left;
        splay(t, x);
        return x;
}

static void cut_link(struct splay *t, uint32_t child, uint32_t parent)
{
        access(t, child);
        t[child].up = parent;
}

static void cut_cut(struct splay *t, uint32_t child)
{
        access(t, child);
        if (t[child].left)
                t[t[child].left].up = 0;
        t[child].left = 0;
}

static void cut_begin(struct thread_job *j)
{
        j->cut = xcalloc(j->nodes_cap, sizeof *j->cut);
        for (uint32_t i = 1; i < j->nodes_n; i++)
                j->cut[i].up = j->nodes[i].parent;
}

/* ---- 1. links ---- */

/* Would `child`, which has no parent, become its own ancestor under `parent`? `first` is set on nodes that ever had a child. */
static bool makes_loop(struct thread_job *j, uint32_t parent, uint32_t child)
{
        uint32_t top = parent;

        if (parent == child)
                return true;
        if (!j->nodes[child].first)
                return false;
        if (j->cut)
                return cut_top(j->cut, parent) == child;
        for (; j->nodes[top].parent; top = j->nodes[top].parent)
                j->walked++;
        if (j->walked > (uint64_t)WALK_PER_NODE * j->nodes_n + 4096)
                cut_begin(j);
        return top == child;
}

static void link_nodes(struct thread_job *j, uint32_t parent, uint32_t child)
{
        if (makes_loop(j, parent, child))
                return;
        j->nodes[child].parent = parent;
        j->nodes[parent].first = child;                         /* only as a sign; the lists are made in the end */
        if (j->cut)
                cut_link(j->cut, child, parent);
}

static void unlink_node(struct thread_job *j, uint32_t child)
{
        if (j->cut)
                cut_cut(j->cut, child);
        j->nodes[child].parent = ROOT;
}

/* The node of an id; NOBODY: there are too many dummies. */
static uint32_t node_by_id(struct thread_job *j, uint64_t id)
{
        struct slot *slot = slots_find(&j->table, id);
        uint32_t node;

        if (slot)
                return slot->node;
        if (j->dummies == j->dummies_max)
                return NOBODY;
        j->dummies++;
        node = node_new(j, NOBODY);
        slots_add(&j->table, id, node);
        return node;
}

static uint32_t node_of_message(struct thread_job *j, uint32_t i)
{
        uint64_t id = j->messages[i].facts->message_id;
        struct slot *slot = id ? slots_find(&j->table, id) : NULL;
        uint32_t node;

        if (slot && is_dummy(j, slot->node)) {
                j->nodes[slot->node].message = i;
                j->dummies--;
                return slot->node;
        }
        node = node_new(j, i);
        if (id && !slot)
                slots_add(&j->table, id, node);
        return node;
}

static void link_message(struct thread_job *j, uint32_t i)
{
        const struct sort_facts *f = j->messages[i].facts;
        const uint64_t *refs = sort_facts_references(f);
        uint32_t node = node_of_message(j, i), before = NOBODY;

        j->node_of[i] = node;
        for (unsigned k = 0; k < f->references; k++) {          /* A */
                uint32_t ref = node_by_id(j, refs[k]);

                if (ref == NOBODY)
                        continue;
                if (before != NOBODY && j->nodes[ref].parent == ROOT)
                        link_nodes(j, before, ref);
                before = ref;
        }
        if (j->nodes[node].parent != ROOT)                      /* B */
                unlink_node(j, node);
        if (before != NOBODY)
                link_nodes(j, before, node);
}

/* ORDEREDSUBJECT: message after message by sent date; the first of a subject is the parent of the others. */
static void link_subject(struct thread_job *j, uint32_t i)
{
        uint64_t subject = j->messages[i].facts->subject + (j->messages[i].facts->subject == 0);       /* the empty one is one too */
        struct slot *slot = slots_find(&j->table, subject);

        if (slot)
                j->nodes[j->node_of[i]].parent = slot->node;
        else
                slots_add(&j->table, subject, j->node_of[i]);
}

/* ---- 2. and 3. pruning ---- */

/*
 * What is above a node once dummies are gone: the nearest message, else the topmost dummy. Dummies on the way are shortened: each is
 * walked over once.
 */
static uint32_t above(struct thread_job *j, uint32_t node)
{
        uint32_t top = j->nodes[node].parent;

        while (top && is_dummy(j, top) && j->nodes[top].parent)
                top = j->nodes[top].parent;
        for (uint32_t x = j->nodes[node].parent; x && x != top && is_dummy(j, x);) {
                uint32_t next = j->nodes[x].parent;

                j->nodes[x].parent = top;
                x = next;
        }
        return top;
}

static void prune(struct thread_job *j, uint32_t node)
{
        if (node && !is_dummy(j, node))
                j->nodes[node].parent = above(j, node);
        j->nodes[node].first = ROOT;
        j->nodes[node].last = 0;                                /* now: how many children */
}

static void count_child(struct thread_job *j, uint32_t i)
{
        j->nodes[j->nodes[j->node_of[i]].parent].last++;
}

static void add_root(struct thread_job *j, uint32_t node)
{
        if (j->roots_n == j->roots_cap) {
                j->roots_cap += j->roots_cap / 2 + 64;
                j->roots = xrealloc(j->roots, j->roots_cap * sizeof *j->roots);
        }
        j->roots[j->roots_n++] = node;
}

/* 4.: by sent date, a message, or its dummy if that is not there yet. A dummy with one child is not needed (3). */
static void collect_root(struct thread_job *j, uint32_t i)
{
        uint32_t node = j->node_of[i], parent = j->nodes[node].parent;

        if (parent && is_dummy(j, parent) && j->nodes[parent].last < 2)
                parent = j->nodes[node].parent = ROOT;
        if (!parent) {
                add_root(j, node);
        } else if (is_dummy(j, parent) && !j->nodes[parent].first) {
                j->nodes[parent].first = node;
                add_root(j, parent);
        }
}

/* ---- 5. one subject, one thread ---- */

static const struct sort_facts *facts_of_root(const struct thread_job *j, uint32_t root)
{
        uint32_t node = is_dummy(j, root) ? j->nodes[root].first : root;

        return j->messages[j->nodes[node].message].facts;
}

static void fill_table(struct thread_job *j, uint32_t root)
{
        const struct sort_facts *f = facts_of_root(j, root);
        struct slot *slot;

        if (!f->subject)
                return;
        slot = slots_find(&j->table, f->subject);
        if (!slot)
                slots_add(&j->table, f->subject, root);
        else if (!is_dummy(j, slot->node) && (is_dummy(j, root) || (facts_of_root(j, slot->node)->reply && !f->reply)))
                slot->node = root;
}

/* A root that was merged has the other as parent; of a merged dummy that means its children. */
static void merge_root(struct thread_job *j, uint32_t root)
{
        const struct sort_facts *f = facts_of_root(j, root);
        struct slot *slot;
        uint32_t other, dummy;

        if (!f->subject)
                return;
        slot = slots_find(&j->table, f->subject);
        other = slot->node;
        if (other == root)
                return;
        if (is_dummy(j, other) || (f->reply && !facts_of_root(j, other)->reply)) {
                j->nodes[root].parent = other;
                return;
        }
        dummy = node_new(j, NOBODY);
        j->nodes[dummy].first = other;
        j->nodes[root].parent = j->nodes[other].parent = dummy;
        slot->node = dummy;
}

/* ---- REFS: the latest internal date ---- */

/* The top of a node's thread; the way is shortened to keep it linear. */
static uint32_t top_of(uint32_t *up, uint32_t node)
{
        uint32_t top = node;

        while (up[top])
                top = up[top];
        while (up[node] && up[node] != top) {
                uint32_t next = up[node];

                up[node] = top;
                node = next;
        }
        return top;
}

static void note_latest(struct thread_job *j, uint32_t *up, uint32_t i)
{
        uint32_t top = top_of(up, j->node_of[i]);

        if (j->messages[i].internaldate > j->latest[top])
                j->latest[top] = j->messages[i].internaldate;
}

/* ---- 6. children in order ---- */

static void append_child(struct thread_job *j, uint32_t parent, uint32_t child)
{
        struct node *p = &j->nodes[parent];

        if (p->last)
                j->nodes[p->last].next = child;
        else
                p->first = child;
        p->last = child;
}

/* Messages come by sent date. A dummy is put under the root when its first child comes. */
static void place(struct thread_job *j, uint32_t i)
{
        uint32_t node = j->node_of[i], parent = j->nodes[node].parent;

        if (parent && is_dummy(j, parent) && j->nodes[parent].parent)
                parent = j->nodes[node].parent = j->nodes[parent].parent;       /* that dummy was merged into another */
        if (parent && is_dummy(j, parent) && !j->nodes[parent].last && j->algorithm != THREAD_REFS)
                append_child(j, ROOT, parent);
        if (parent || j->algorithm != THREAD_REFS)
                append_child(j, parent, node);
}

/* ---- the steps ---- */

static void next_step(struct thread_job *j, enum step step)
{
        j->step = step;
        j->at = 0;
}

struct thread_job *thread_create(enum thread_algorithm algorithm, const struct thread_message *messages, uint32_t n)
{
        struct thread_job *j = xcalloc(1, sizeof *j);

        j->algorithm = algorithm;
        j->messages = messages;
        j->messages_n = n;
        j->table.expected = n;
        j->dummies_max = n > (UINT32_MAX - DUMMIES_SPARE) / 8 ? UINT32_MAX / 4 : 4 * n + DUMMIES_SPARE;
        j->order = xcalloc(n ? n : 1, sizeof *j->order);
        j->node_of = xcalloc(n ? n : 1, sizeof *j->node_of);
        for (uint32_t i = 0; i < n; i++)
                j->order[i] = (struct sort_item){ (uint64_t)messages[i].sent ^ (UINT64_C(1) << 63), i, 0 };
        slice_sort_init(&j->sort, j->order, n, NULL, NULL);
        j->nodes_cap = n + 64;
        j->nodes = xmalloc(j->nodes_cap * sizeof *j->nodes);
        node_new(j, NOBODY);                                    /* ROOT */
        return j;
}

void thread_destroy(struct thread_job **jobp)
{
        struct thread_job *j = *jobp;

        *jobp = NULL;
        if (!j)
                return;
        slice_sort_deinit(&j->sort);
        slots_clear(&j->table);
        free(j->order);
        free(j->nodes);
        free(j->node_of);
        free(j->cut);
        free(j->roots);
        free(j->root_items);
        free(j->latest);
        free(j);
}

static void sort_roots_begin(struct thread_job *j)
{
        j->root_items = xcalloc(j->roots_n ? j->roots_n : 1, sizeof *j->root_items);
        for (uint32_t i = 0; i < j->roots_n; i++)
                j->root_items[i] = (struct sort_item){ (uint64_t)j->latest[j->roots[i]] ^ (UINT64_C(1) << 63), j->roots[i], 0 };
        slice_sort_deinit(&j->sort);
        slice_sort_init(&j->sort, j->root_items, j->roots_n, NULL, NULL);
}

/* REFS: the threads in their order, before the messages go below them. */
static void append_sorted_roots(struct thread_job *j)
{
        for (uint32_t i = 0; i < j->roots_n; i++)
                append_child(j, ROOT, j->root_items[i].at);
}

/* The parents once more, to be shortened. */
static uint32_t *ways_up(struct thread_job *j)
{
        uint32_t *up = xcalloc(j->nodes_n, sizeof *up);

        for (uint32_t i = 1; i < j->nodes_n; i++)
                up[i] = j->nodes[i].parent;
        return up;
}

static void note_all_latest(struct thread_job *j)
{
        uint32_t *up = ways_up(j);

        j->latest = xcalloc(j->nodes_n, sizeof *j->latest);
        for (uint32_t i = 0; i < j->nodes_n; i++)
                j->latest[i] = INT64_MIN;
        for (uint32_t i = 0; i < j->messages_n; i++)
                note_latest(j, up, i);
        free(up);
}

/* One unit of the present step; its last one begins the next step. */
static void one_unit(struct thread_job *j)
{
        uint32_t at = j->at++;

        switch (j->step) {
        case STEP_LINK:
                if (at < j->messages_n)
                        link_message(j, at);
                else
                        next_step(j, STEP_PRUNE);
                break;
        case STEP_SUBJECTS:
                if (at == 0)
                        for (uint32_t i = 0; i < j->messages_n; i++)
                                j->node_of[i] = node_new(j, i);
                if (at < j->messages_n)
                        link_subject(j, j->order[at].at);
                else
                        next_step(j, STEP_CHILDREN);
                break;
        case STEP_PRUNE:
                if (at < j->nodes_n)
                        prune(j, at);
                else
                        next_step(j, STEP_COUNT);
                break;
        case STEP_COUNT:
                if (at < j->messages_n)
                        count_child(j, at);
                else
                        next_step(j, STEP_ROOTS);
                break;
        case STEP_ROOTS:
                if (at < j->messages_n) {
                        collect_root(j, j->order[at].at);
                } else {
                        slots_clear(&j->table);
                        next_step(j, j->algorithm == THREAD_REFS ? STEP_LATEST : STEP_TABLE);
                }
                break;
        case STEP_TABLE:
                if (at < j->roots_n)
                        fill_table(j, j->roots[at]);
                else
                        next_step(j, STEP_MERGE);
                break;
        case STEP_MERGE:
                if (at < j->roots_n) {
                        merge_root(j, j->roots[at]);
                } else {
                        for (uint32_t i = 0; i < j->nodes_n; i++)
                                j->nodes[i].first = j->nodes[i].last = 0;
                        next_step(j, STEP_CHILDREN);
                }
                break;
        case STEP_LATEST:
                note_all_latest(j);
                for (uint32_t i = 0; i < j->nodes_n; i++)
                        j->nodes[i].first = j->nodes[i].last = 0;
                sort_roots_begin(j);
                next_step(j, STEP_SORT_ROOTS);
                break;
        case STEP_CHILDREN:
                if (at < j->messages_n) {
                        place(j, j->order[at].at);
                } else {
                        j->print_root = j->print_at = j->nodes[ROOT].first;
                        j->print_down = true;
                        next_step(j, STEP_DONE);
                }
                break;
        case STEP_SORT:
        case STEP_SORT_ROOTS:
        case STEP_DONE:
                break;
        }
}

bool thread_run(struct thread_job *j, uint32_t budget)
{
        if (j->step == STEP_SORT) {
                if (!slice_sort_run(&j->sort, budget))
                        return false;
                next_step(j, j->algorithm == THREAD_ORDEREDSUBJECT ? STEP_SUBJECTS : STEP_LINK);
        }
        while (j->step != STEP_DONE) {
                if (j->step == STEP_SORT_ROOTS) {
                        if (!slice_sort_run(&j->sort, budget))
                                return false;
                        append_sorted_roots(j);
                        next_step(j, STEP_CHILDREN);
                }
                if (budget-- == 0)
                        return false;
                one_unit(j);
        }
        return true;
}

/* ---- printing (RFC 5256 4, THREAD response) ---- */

static bool many(const struct thread_job *j, uint32_t node)
{
        const struct node *n = &j->nodes[node];

        return n->first && n->first != n->last;
}

/* A node and the way to what is printed next. */
static void print_node(struct thread_job *j, struct str *out)
{
        uint32_t at = j->print_at;
        const struct node *n = &j->nodes[at];

        if (n->parent == ROOT || many(j, n->parent))
                str_append_c(out, '(');
        if (n->message != NOBODY) {
                str_append_u64(out, j->messages[n->message].number);
                if (n->first)
                        str_append_c(out, ' ');
        }
        if (n->first)
                j->print_at = n->first;
        else
                j->print_down = false;
}

/* print_at and all below it was printed. */
static void print_up(struct thread_job *j, struct str *out)
{
        const struct node *n = &j->nodes[j->print_at];
        bool bracketed = n->parent == ROOT || many(j, n->parent);

        if (bracketed)
                str_append_c(out, ')');
        if (n->next) {
                j->print_at = n->next;
                j->print_down = true;
        } else {
                j->print_at = n->parent;
        }
}

bool thread_print(struct thread_job *j, struct str *out, size_t octets)
{
        size_t enough = out->len + octets;

        must(j->step == STEP_DONE);
        while (j->print_at && out->len < enough)
                if (j->print_down)
                        print_node(j, out);
                else
                        print_up(j, out);
        return !j->print_at;
}
