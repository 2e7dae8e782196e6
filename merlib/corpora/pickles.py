def conv_emotion(s): raise NotImplementedError
def multiemo(s): raise NotImplementedError
