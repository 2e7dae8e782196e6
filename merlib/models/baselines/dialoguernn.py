"""DialogueRNN (Majumder et al. 2019): who spoke, what was said so far, and how it felt, as three coupled GRUs.

For utterance u_t of party s_t (global state g, party states q, emotion state e, all zero at first):
    g_t      = GRU_g([u_t; q_{t-1,s_t}], g_{t-1})                                    (eq. 1)
    c_t      = sum_{j<t} softmax_j(score(u_t, g_j)) g_j,  c_1 = 0                    (eq. 2-4)
    q_{t,s_t} = GRU_p([u_t; c_t], q_{t-1,s_t})                                       (eq. 5)
    q_{t,i}  = q_{t-1,i}, or GRU_l([u_t; q_{t,s_t}], q_{t-1,i}) for listeners i      (eq. 6-7)
    e_t      = GRU_e(q_{t,s_t}, e_{t-1})                                             (eq. 8)
Shapes: m streams, s networks (streams x directions), b dialogues, n turns, k dialogues still going on, N utterances.
Only g, c and q must wait for the previous turn: products with u, and the whole of e's input, are made for all turns
at once, and all networks share one loop.
"""
